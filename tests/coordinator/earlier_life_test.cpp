#include "coordinator/earlier_life.h"

#include <functional>

#include <doctest/doctest.h>

#include "coordinator/federation_id.h"
#include "coordinator/run_folder.h"
#include "core/error.h"
#include "tests/coordinator/harness.h"

using namespace drystone;
using namespace drystone::test;

namespace {

/// A state and its run folder, and what is said of another configuration on them.
class FormerRun {
 public:
  FormerRun() {
    federation_.start();
    coordinator::begin_run_folder(dir_ / "run", federation_.config());
    federation_.crash();
  }
  core::Config config() { return federation_.config(); }
  std::string complaint(const core::Config& config) const {
    try {
      coordinator::refuse_other_configuration(dir_ / "run", dir_ / "state", config);
      return "";
    } catch (const core::ConfigError& error) {
      return error.what();
    }
  }
  fs::path folder() const { return dir_ / "run"; }
  void keep_begun_rounds(core::Config& config) const {
    coordinator::keep_begun_rounds(config, dir_ / "run", dir_ / "state");
  }

 private:
  TemporaryFolder dir_;
  Federation federation_{dir_.path()};
};

/// Of a federation that has finished its only round: whether it may be given `rounds`.
void try_rounds(std::int64_t rounds, const std::string& why,
                const std::function<void(core::Config&)>& change) {
  TemporaryFolder dir;
  Federation federation(dir.path(), 1, /*rounds=*/1);
  change(federation.config());
  federation.start_with({"client-1"});
  REQUIRE(
      federation.take_part("client-1", *federation.next<wire::Task>("client-1"), 2, 0.1)->accepted);
  federation.settle();
  REQUIRE(federation.coordinator().store().load().version == 1);
  coordinator::begin_run_folder(dir / "run", federation.config());
  federation.crash();
  core::Config config = federation.config();
  config.federation.rounds = rounds;
  if (why.empty()) {
    CHECK_NOTHROW(coordinator::keep_begun_rounds(config, dir / "run", dir / "state"));
  } else {
    CHECK_THROWS_WITH_AS(coordinator::keep_begun_rounds(config, dir / "run", dir / "state"),
                         doctest::Contains(why.c_str()), core::ConfigError);
  }
}

}  // namespace

TEST_CASE("earlier life: more rounds are the same federation, begun with fewer") {
  FormerRun run;
  core::Config config = run.config();
  const std::string id = coordinator::federation_id(config);
  const std::int64_t begun = config.federation.rounds;
  run.keep_begun_rounds(config);
  CHECK(config.federation.begun_rounds == 0);
  config.federation.rounds += 3;
  CHECK(run.complaint(config).find("federation.rounds: ") != std::string::npos);
  run.keep_begun_rounds(config);
  CHECK(config.federation.begun_rounds == begun);
  CHECK(coordinator::federation_id(config) == id);
  CHECK(run.complaint(config).empty());

  coordinator::begin_run_folder(run.folder(), config);  // the next life, which raises it again
  core::Config again = run.config();
  again.federation.rounds += 7;
  run.keep_begun_rounds(again);
  CHECK(again.federation.begun_rounds == begun);
  core::Config back = run.config();  // to where it began
  run.keep_begun_rounds(back);
  CHECK(back.federation.begun_rounds == 0);
  CHECK(run.complaint(back).empty());

  core::Config other = run.config();
  other.federation.rounds += 1;
  other.seed += 1;
  run.keep_begun_rounds(other);
  CHECK(other.federation.begun_rounds == 0);  // another federation altogether
}

TEST_CASE("earlier life: rounds that what is done does not fit are refused with the reason") {
  const auto span = [](core::Config& config) { config.training.schedule_over = "federation"; };
  const auto cut = [](core::Config& config) {
    config.aggregation.compaction = "rank";
    config.aggregation.rank = 2;
  };
  try_rounds(4, "", [](core::Config&) {});
  try_rounds(4, "spans the learning rate over all rounds", span);
  try_rounds(1, "", span);  // the number that it had
  try_rounds(4, "a last round cuts nothing", cut);
}

TEST_CASE("earlier life: another configuration is told key by key, of many the first five") {
  FormerRun run;
  core::Config config = run.config();
  CHECK(run.complaint(config).empty());
  config.seed += 1;
  CHECK(run.complaint(config).find("(seed: " + std::to_string(config.seed - 1) + " -> " +
                                   std::to_string(config.seed) + ")") != std::string::npos);
  config.federation.rounds += 1;
  config.model.max_length += 1;
  config.training.rank += 1;
  config.training.learning_rate *= 2;
  CHECK(run.complaint(config).find(" more)") == std::string::npos);
  config.training.batch_size += 1;
  config.training.alpha += 1;
  CHECK(run.complaint(config).find(" and 2 more)") != std::string::npos);
}
