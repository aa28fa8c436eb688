#include "client/reveal.h"

#include <doctest/doctest.h>

namespace drystone::client {
namespace {

TEST_CASE("reveal: minimal tells whole percents and two digits") {
  CHECK(coarse_count(0) == 0);
  CHECK(coarse_count(7) == 7);
  CHECK(coarse_count(99) == 99);
  CHECK(coarse_count(153) == 150);
  CHECK(coarse_count(1'998) == 1'900);
  CHECK(coarse_count(~std::uint64_t{0}) == 18'000'000'000'000'000'000ULL);

  const wire::Progress told = coarse(wire::Progress{
      .round = 3, .step = 5, .num_steps = 7, .loss = 2.1234, .num_tokens = 17, .peak_bytes = 123});
  CHECK(told.round == 3);
  CHECK(told.step == 71);
  CHECK(told.num_steps == 100);
  CHECK(told.loss == 0.0);
  CHECK(told.num_tokens == 0);
  CHECK(told.peak_bytes == 0);
  CHECK(coarse(wire::Progress{.step = 9, .num_steps = 9}).step == 100);
  CHECK(coarse(wire::Progress{}).step == 0);

  const wire::UpdateManifest manifest = coarse(wire::UpdateManifest{.client = "c",
                                                                    .num_examples = 153,
                                                                    .num_steps = 12,
                                                                    .num_tokens = 31'415,
                                                                    .train_loss = 2.3456,
                                                                    .method = "lora",
                                                                    .num_passes = 24});
  CHECK(manifest.client == "c");
  CHECK(manifest.num_examples == 150);
  CHECK(manifest.num_steps == 12);
  CHECK(manifest.num_tokens == 31'000);
  CHECK(manifest.train_loss == 2.3);
  CHECK(manifest.num_passes == 0);
}

}  // namespace
}  // namespace drystone::client
