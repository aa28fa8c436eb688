// drystone inspect: what an adapter, a run folder or a state folder holds, and whether it is true.

#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/inspection.h"
#include "cli/verify.h"
#include "core/error.h"

namespace drystone::cli {

namespace {

struct Options {
  std::filesystem::path path;
  bool verify = false;
  bool has_head = false;
  std::string head;
  bool json = false;
};

/// Of a state folder, a run, or the state of a run that was killed before its first report.
Verification verification_of(const std::filesystem::path& path) {
  const auto holds_state = [](const std::filesystem::path& folder) {
    return std::filesystem::exists(folder / "state.sqlite");
  };
  if (holds_state(path)) return verify_state_folder(path);
  const bool has_record = std::filesystem::exists(path / "versions");
  if (!has_record && holds_state(path / "state")) return verify_state_folder(path / "state");
  return verify_run(path);
}

int verify(const Options& options) {
  const Verification verification = verification_of(options.path);
  std::fputs((options.json ? to_json(verification) : to_text(verification)).c_str(), stdout);
  if (options.has_head && options.head != core::to_hex(verification.head)) {
    throw core::Error("--head: the run ends in " + core::to_hex(verification.head) +
                      ", not in the head that was given: it is not that run");
  }
  return verification.is_sound() ? core::kDone : core::kFailed;
}

int run(const Options& options) {
  require_existing(options.path);
  if (options.verify) return verify(options);
  if (options.has_head) throw core::ConfigError("--head: needs --verify; add it");
  const Inspection inspection = inspect(options.path);
  std::fputs((options.json ? to_json(inspection) : to_text(inspection)).c_str(), stdout);
  return core::kDone;
}

}  // namespace

Command add_inspect(core::CommandLine& line) {
  auto options = std::make_shared<Options>();
  line.option(
          "PATH", options->path,
          "A run folder, a coordinator's state folder, an adapter folder (PEFT) or a factors file "
          "(.safetensors)")
      .required();
  line.flag(
      "--verify", options->verify,
      "Run or state folder: check every signature, the chain of heads and every file that can be "
      "checked, recompute each version from the clients' updates, and list what is not covered");
  const core::CommandOption head = line.option(
      "--head", options->head,
      "With --verify: the head that the run must end in, as somebody you trust told it; the "
      "record's own keys alone cannot prove who made it");
  line.flag("--json", options->json, "For programs");
  return [options, head](const core::CommonOptions&, const std::stop_token&) {
    options->has_head = head.is_given();
    return run(*options);
  };
}

}  // namespace drystone::cli
