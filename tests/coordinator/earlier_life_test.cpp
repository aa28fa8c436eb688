#include "coordinator/earlier_life.h"

#include <doctest/doctest.h>

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

 private:
  TemporaryFolder dir_;
  Federation federation_{dir_.path()};
};

}  // namespace

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
