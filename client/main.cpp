// drystone-client: one client of a federation.

#include <filesystem>

#include "client/configuration_check.h"
#include "client/runtime.h"
#include "core/error.h"
#include "core/log.h"
#include "core/output_folder.h"
#include "core/program.h"
#include "core/progress.h"
#include "tensors/process.h"

namespace {

using namespace drystone;

constexpr const char* kAbout =
    "Takes part in a federation as one client: connects to the coordinator, trains when asked, "
    "with\n"
    "the rank and method that its configuration says, and uploads its factors. Reconnects until "
    "the\n"
    "federation ends.\n\n"
    "The configuration names the model, the data and, under [security], the coordinator's "
    "address,\n"
    "this client's keys and the coordinator's public key; `drystone provision` makes it.";

int run(int argc, const char* const* argv, const std::stop_token& stop) {
  core::CommandLine line(kAbout, "drystone-client");
  core::CommonOptions common;
  core::add_common_options(line, common);
  std::filesystem::path file;
  std::vector<std::string> overrides;
  std::string memory_limit;
  std::string give_up_after;
  line.option("CONFIG", file, "client.toml of this client's folder").required();
  line.option("--set", overrides,
              "KEY=VALUE that replaces a key of the file, e.g. training.rank=4");
  line.option("--memory-limit", memory_limit,
              "What this program may take, e.g. 3GB: splits mini-batches, computes layers again")
      .value_name("SIZE")
      .check(core::size());
  line.option("--give-up-after", give_up_after,
              "How long to look for the coordinator before ending, e.g. 1h; never by default")
      .value_name("DURATION")
      .check(core::patience());
  if (const auto status = line.parse(argc, argv)) return *status;
  if (!memory_limit.empty()) overrides.push_back("training.memory_limit=" + memory_limit);
  if (!give_up_after.empty()) overrides.push_back("client.give_up_after=" + give_up_after);
  core::Config config = core::load_config(file, overrides);
  if (common.threads > 0) config.training.threads = common.threads;
  client::check_configuration(config);
  core::OutputFolder folder(config.output.dir);
  core::init_log(core::parse_log_level(common.log_level), config.output.dir / "log.txt");
  core::ProgressBoard board;
  const auto end =
      folder.use([&] { return client::run_client(config, common.device, board, stop); });
  if (end == client::RunEnd::Done) core::log_info("the federation is over");
  return core::kDone;
}

}  // namespace

int main(int argc, char** argv) {
  drystone::tensors::tune_process();
  drystone::core::keep_files_private();
  drystone::core::outlive_readers();
  return core::run_program([&](const std::stop_token& stop) { return run(argc, argv, stop); });
}
