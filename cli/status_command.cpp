// drystone status: what a federation is at, from its state folder, while a coordinator has it open
// or afterwards.

#include <chrono>
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/status_text.h"
#include "coordinator/status.h"
#include "core/error.h"

namespace drystone::cli {

namespace fs = std::filesystem;

namespace {

struct Options {
  fs::path path;
  bool json = false;
};

/// The state folder itself, or that of a run folder.
fs::path state_of(const fs::path& path) {
  for (const fs::path& folder : {path, path / "state"}) {
    std::error_code unreadable;
    if (fs::exists(folder / "state.sqlite", unreadable)) return folder;
  }
  throw core::ConfigError(path.string() +
                          ": no coordinator's state (state.sqlite) there; name a coordinator's "
                          "state folder, or a run folder with one");
}

int run(const Options& options) {
  const coordinator::StateStatus found = coordinator::status_of(state_of(options.path));
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const std::string text =
      options.json ? to_json(found) : to_text(found, std::chrono::duration<double>(now).count());
  std::fputs(text.c_str(), stdout);
  return core::kDone;
}

}  // namespace

Command add_status(core::CommandLine& line) {
  auto options = std::make_shared<Options>();
  line.option("STATE", options->path, "A coordinator's state folder, or a run folder with one")
      .required();
  line.flag("--json", options->json, "For programs");
  return [options](const core::CommonOptions&, const std::stop_token&) { return run(*options); };
}

}  // namespace drystone::cli
