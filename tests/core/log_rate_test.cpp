#include "core/log_rate.h"

#include <doctest/doctest.h>

using namespace drystone;
using core::LogRate;

TEST_CASE("log rate: a flood of one phrase is cut and counted, others are not touched") {
  LogRate rate;
  core::Instant now = std::chrono::hours(1);
  std::int64_t written = 0;
  for (int i = 0; i < 100'000; ++i) written += rate.admit("coordinator refused", now) ? 1 : 0;
  CHECK(written == LogRate::kLines);
  CHECK(rate.admit("update accepted", now) == 0);
  now += LogRate::kWindow;
  CHECK(rate.admit("coordinator refused", now) == 100'000 - LogRate::kLines);
  CHECK(rate.admit("coordinator refused", now) == 0);
}
