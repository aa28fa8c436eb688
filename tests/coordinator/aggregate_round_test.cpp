#include "coordinator/aggregate_round.h"

#include <limits>

#include <doctest/doctest.h>

#include "tests/coordinator/harness.h"
#include "wire/blob_store.h"

using namespace drystone;
using namespace drystone::test;

namespace {

/// The first round's aggregate of one client's update, whatever the gate would have said to it.
coordinator::AggregatedRound aggregate(const tensors::FactorSet& update) {
  const TemporaryFolder dir;
  wire::BlobStore blobs(dir / "blobs");
  coordinator::OpenRound round{.plan = {.round = 1, .cohort = {"client-1"}}, .accepted = {}};
  round.accepted["client-1"] = {
      .client = "client-1", .payload = blobs.put(tensors::to_bytes(update)), .num_examples = 1};
  return coordinator::RoundAggregator(core::Config{}, dir.path()).aggregate(round, blobs);
}

}  // namespace

TEST_CASE("aggregate round: a dense part that is not finite is named, never published") {
  CHECK_FALSE(aggregate(small_update(2, 0.25)).unsound.has_value());
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    tensors::FactorSet update = small_update(2, 0.25);
    update.dense["classifier.weight"][2][7] = bad;
    const auto why = aggregate(update).unsound.value_or("");
    CHECK(why.find("classifier.weight") != std::string::npos);
  }
}

TEST_CASE("aggregate round: what a round carried goes with its hash, and that of no other round") {
  const TemporaryFolder dir;
  const coordinator::RoundAggregator aggregator(core::Config{}, dir.path());
  const std::vector<std::string> files = {"carry-1.safetensors", "carry-1.safetensors.sha256",
                                          "carry-2.safetensors", "carry-2.safetensors.sha256"};
  for (const std::string& file : files) dir.write(file, "carried");
  aggregator.forget_carry(1);
  for (std::size_t i = 0; i < files.size(); ++i) {
    CAPTURE(files[i]);
    CHECK(fs::exists(dir / files[i]) == (i >= 2));
  }
}
