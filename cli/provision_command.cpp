// drystone provision: from a federation's configuration to one folder a party.

#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/provision.h"
#include "core/log.h"

namespace drystone::cli {

namespace {

struct Options {
  std::filesystem::path config;
  std::vector<std::string> overrides;
  ProvisionOptions provision;
};

int run(const Options& options, const core::CommonOptions& common) {
  core::init_log(core::parse_log_level(common.log_level));
  const core::Config config = core::load_config(options.config, options.overrides);
  const auto folders = provision(config, options.provision);
  std::printf("Copy each folder to its party's machine, then there:\n");
  for (const auto& folder : folders) {
    const bool is_server = folder.filename() == "coordinator";
    std::printf("  %s  %s.toml\n", folder.c_str(),
                is_server ? "drystone-coordinator coordinator" : "drystone-client client");
  }
  if (config.data.train.empty()) {
    std::printf(
        "Each client reads train.jsonl in its folder, which you put there; "
        "max_examples in\ncoordinator/roster.toml caps how many examples it may count for "
        "(0: any number).\n");
  }
  return core::kDone;
}

}  // namespace

Command add_provision(core::CommandLine& line) {
  auto options = std::make_shared<Options>();
  ProvisionOptions& provision = options->provision;
  line.option("CONFIG", options->config, "The federation's configuration").required();
  line.option("--out", provision.out, "Folder to make, with one folder a party in it").required();
  line.option(
      "--address", provision.address,
      std::string("Where clients reach the coordinator (default: ") + kDefaultAddress + ")");
  line.option("--bind", provision.bind,
              "What the coordinator binds to (default: --address where its host is a number or "
              "localhost, otherwise its port on all interfaces)");
  const auto copy = line.flag("--copy-model", provision.copy_model,
                              "Put the base model into every client's folder");
  line.option("--model-path", provision.model_path,
              "Where the model lies on the clients' machines, absolute or relative to a "
              "client's folder (default: as on this machine)")
      .excludes(copy);
  line.flag("--update", provision.update,
            "Write the configurations in --out anew; keys, data, roster limits, and addresses "
            "and models' places that are not given again stay, new parties are added");
  line.option("--set", options->overrides, "KEY=VALUE that replaces a key of the file");
  return [options](const core::CommonOptions& common, const std::stop_token&) {
    core::keep_files_private();
    return run(*options, common);
  };
}

}  // namespace drystone::cli
