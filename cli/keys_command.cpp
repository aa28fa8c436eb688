// drystone keys: identities of coordinators and clients.

#include <cstdio>
#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "core/text.h"
#include "crypto/identity.h"

namespace drystone::cli {

namespace {

struct Options {
  std::string name;
  std::filesystem::path out = "keys";
};

int make_keys(const Options& options) {
  const crypto::Identity identity = crypto::generate_identity(options.name);
  crypto::save_identity(identity, options.out);
  const std::string stem = core::visible((options.out / options.name).string());
  std::printf(
      "%s.key  keep it secret, it never leaves this machine\n"
      "%s.pub  give it to the other side\n",
      stem.c_str(), stem.c_str());
  return core::kDone;
}

}  // namespace

Command add_keys(core::CommandLine& line) {
  auto options = std::make_shared<Options>();
  core::CommandLine make =
      line.command("new", "Make a new identity: NAME.key (secret) and NAME.pub");
  make.option("NAME", options->name, "Name of the party, e.g. client-3").required();
  make.option("--out", options->out, "Folder to write to");
  return
      [options](const core::CommonOptions&, const std::stop_token&) { return make_keys(*options); };
}

}  // namespace drystone::cli
