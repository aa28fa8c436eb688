// drystone provision: from a federation's configuration to one folder a party.

#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/provision.h"
#include "cli/provision_changes.h"
#include "core/log.h"
#include "core/text.h"

namespace drystone::cli {

namespace {

struct Options {
  std::filesystem::path config;
  std::vector<std::string> overrides;
  ProvisionOptions provision;
};

/// Of an earlier run of the command; empty without one.
std::map<std::string, PartyState> states_in(const std::filesystem::path& out) {
  std::map<std::string, PartyState> states;
  std::error_code ignored;  // none: a new federation, or provision refuses
  for (const auto& party : std::filesystem::directory_iterator(out, ignored)) {
    if (party.is_directory()) states[party.path().filename().string()] = look_at(party.path());
  }
  return states;
}

void tell_changes(const ProvisionOptions& options, const std::map<std::string, PartyState>& before,
                  const std::vector<std::filesystem::path>& folders) {
  std::map<std::string, PartyChange> changes;
  for (const auto& folder : folders) {
    const std::string party = folder.filename().string();
    const auto found = before.find(party);
    PartyChange own = change(found == before.end() ? PartyState{} : found->second, look_at(folder));
    if (options.copy_model && !own.is_new && party != "coordinator")
      own.files.emplace_back("model");
    changes[party] = std::move(own);
  }
  std::fputs(to_text(options.out, changes).c_str(), stdout);
}

void tell_folders(const std::vector<std::filesystem::path>& folders) {
  std::printf("Copy each folder to its party's machine, then there:\n");
  for (const auto& folder : folders) {
    const bool is_server = folder.filename() == "coordinator";
    std::printf("  %s  %s.toml\n", core::visible(folder.string()).c_str(),
                is_server ? "drystone-coordinator coordinator" : "drystone-client client");
  }
}

int run(const Options& options, const core::CommonOptions& common) {
  core::init_log(core::parse_log_level(common.log_level));
  const core::Config config = core::load_config(options.config, options.overrides);
  std::map<std::string, PartyState> before;
  if (options.provision.update) before = states_in(options.provision.out);
  const auto folders = provision(config, options.provision);
  if (options.provision.update) {
    tell_changes(options.provision, before, folders);
  } else {
    tell_folders(folders);
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
