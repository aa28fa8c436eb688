#include "client/coordinator_watch.h"

#include <doctest/doctest.h>

#include "core/error.h"

namespace drystone::client {
namespace {

using namespace std::chrono_literals;

TEST_CASE(
    "coordinator watch: asks for the reason soon and every minute, and gives up when told to") {
  int asked = 0;
  const auto why = [&] {
    ++asked;
    return std::string("Connection refused");
  };
  core::ManualClock clock;
  CoordinatorWatch patient({.client = "c", .address = "tcp://h:1"}, clock.now());
  for (int second = 0; second < 600; ++second, clock.advance(1s)) {
    patient.update(false, clock.now(), why);
  }
  CHECK(asked == 10);
  patient.update(true, clock.now(), why);
  clock.advance(1h);
  patient.update(true, clock.now(), why);
  CHECK(asked == 10);

  CoordinatorWatch watch({.client = "c", .address = "tcp://h:1", .give_up_after = 30s},
                         clock.now());
  clock.advance(29s);
  watch.update(false, clock.now(), why);
  watch.update(true, clock.now(), why);
  clock.advance(10min);
  watch.update(false, clock.now(), why);  // lost just now
  clock.advance(30s);
  CHECK_THROWS_WITH_AS(
      watch.update(false, clock.now(), why),
      "c: no coordinator at tcp://h:1 for 30.0 s (Connection refused); gave up, as "
      "client.give_up_after says",
      core::Error);
}

}  // namespace
}  // namespace drystone::client
