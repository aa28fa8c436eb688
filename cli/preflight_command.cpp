// drystone preflight: what a coordinator, a client or a simulation needs, looked at beforehand.

#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/preflight.h"
#include "core/config.h"
#include "core/error.h"

namespace drystone::cli {

namespace {

struct Options {
  std::filesystem::path config;
  std::vector<std::string> overrides;
  bool json = false;
};

int run(const Options& options, const core::CommonOptions& common) {
  core::Config config = core::load_config(options.config, options.overrides);
  if (common.threads > 0) config.training.threads = common.threads;
  const std::vector<Finding> findings = preflight(config, common.device);
  std::fputs((options.json ? to_json(findings) : to_text(findings)).c_str(), stdout);
  for (const Finding& finding : findings) {
    if (finding.verdict == Verdict::Fail) return core::kFailed;
  }
  return core::kDone;
}

}  // namespace

Command add_preflight(core::CommandLine& line) {
  auto options = std::make_shared<Options>();
  line.option("CONFIG", options->config,
              "coordinator.toml, client.toml, or a federation's configuration to be simulated")
      .required();
  line.option("--set", options->overrides, "KEY=VALUE that replaces a key of the file");
  line.flag("--json", options->json, "For programs");
  return [options](const core::CommonOptions& common, const std::stop_token&) {
    return run(*options, common);
  };
}

}  // namespace drystone::cli
