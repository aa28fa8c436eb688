// drystone-coordinator: the server of a federation.

#include <cstdio>
#include <filesystem>

#include "coordinator/configuration_check.h"
#include "coordinator/console.h"
#include "coordinator/coordinator.h"
#include "coordinator/earlier_life.h"
#include "coordinator/global_keeper.h"
#include "coordinator/machine_settings.h"
#include "coordinator/run_folder.h"
#include "coordinator/status_keeper.h"
#include "core/descriptors.h"
#include "core/error.h"
#include "core/log.h"
#include "core/output_folder.h"
#include "core/program.h"
#include "core/progress.h"
#include "core/text.h"
#include "wire/durable_file.h"
#include "wire/zmq_transport.h"

namespace {

using namespace drystone;
using namespace std::chrono_literals;

constexpr const char* kAbout =
    "Runs the rounds of a federation: asks clients, checks and stacks their updates, publishes "
    "each\n"
    "new version. State is kept in the state folder: start it again after a crash and it goes on\n"
    "where it was, with no accepted update lost.\n\n"
    "The configuration names, under [security], the address to bind, the coordinator's keys and "
    "the\n"
    "roster of clients, and under [federation] layout and initial; `drystone provision` makes all.";

// How long it stays after the last request, so that clients can fetch the final version.
constexpr auto kFarewell = 2s;

struct Options {
  core::CommonOptions common;
  std::filesystem::path file;
  std::filesystem::path state;
  std::vector<std::string> overrides;
  bool start_over = false;
};

/// What the configuration names, all of it read before a folder is made.
struct Parts {
  explicit Parts(const core::Config& config)
      : identity(crypto::load_identity(config.security.identity)),
        roster(crypto::load_roster(config.security.allow)),
        layout(aggregation::read_layout(config.federation.layout)) {
    coordinator::machine_settings(config, roster,
                                  std::make_shared<coordinator::ClientSettings>(config, roster));
  }
  crypto::Identity identity;
  crypto::Roster roster;
  aggregation::AdapterLayout layout;
};

int serve(const core::Config& config, const std::filesystem::path& state, const Parts& parts,
          const std::stop_token& stop) {
  const auto& [identity, roster, layout] = parts;
  wire::ZmqServer transport(config.security.coordinator, identity, roster);
  core::ProgressBoard board;
  coordinator::Console console(board, config.federation.rounds);
  coordinator::MetricsRecorder recorder(config.output.dir);
  const core::SystemClock clock;
  coordinator::StatusKeeper status(config, state, clock);
  coordinator::Coordinator coordinator({.config = config,
                                        .roster = roster,
                                        .layout = layout,
                                        .initial = config.federation.initial,
                                        .state_dir = state,
                                        .roster_file = config.security.allow},
                                       identity, transport, clock,
                                       coordinator::background_thread(transport),
                                       {&console, &recorder, &status});
  coordinator::begin_run_folder(config.output.dir, config);
  coordinator::tell_what_is_there(coordinator.store());
  core::log_info("listening", {{"address", std::string_view(transport.address())},
                               {"clients", static_cast<std::int64_t>(roster.clients.size())}});
  coordinator::GlobalKeeper global(
      {.run_dir = config.output.dir,
       .state_dir = state,
       .settings = {.config = config, .base_model = config.model.path.string()}},
      coordinator, {&console});
  while (!coordinator.is_over() && !stop.stop_requested()) {
    coordinator.step(200ms);
    global.follow();
    status.follow(coordinator);
  }
  status.finish(coordinator);
  coordinator::write_run_folder({.dir = config.output.dir, .config = config, .layout = layout},
                                coordinator);
  global.finish([&] { coordinator.step(100ms); });  // clients still fetch the last version
  if (!coordinator.is_over()) {
    std::puts(coordinator::stopped_text(coordinator.report(), state, "starting it again").c_str());
    return core::kDone;  // run_program turns it into 130 or 143
  }
  if (const auto failure = coordinator.failure()) throw core::Error(*failure);
  std::printf("\n%s\nin %s\n", coordinator::results_table(coordinator.report()).c_str(),
              core::visible(config.output.dir.string()).c_str());
  auto until = clock.now() + kFarewell;
  while (clock.now() < until && !stop.stop_requested()) {
    if (coordinator.step(100ms)) until = clock.now() + kFarewell;
  }
  return core::kDone;
}

int run(int argc, const char* const* argv, const std::stop_token& stop) {
  core::CommandLine line(kAbout, "drystone-coordinator");
  Options options;
  core::add_common_options(line, options.common);
  line.option("CONFIG", options.file, "coordinator.toml").required();
  line.option("--state", options.state, "State folder (default: output.dir/state)");
  line.option("--set", options.overrides, "KEY=VALUE that replaces a key of the file");
  line.flag("--start-over", options.start_over,
            "Delete the state and the versions that are there, and begin anew");
  if (const auto status = line.parse(argc, argv)) return *status;
  core::Config config = core::load_config(options.file, options.overrides);
  coordinator::check_configuration(config);
  const Parts parts(config);
  const std::filesystem::path& run_dir = config.output.dir;
  const std::filesystem::path state = options.state.empty() ? run_dir / "state" : options.state;
  if (options.start_over) {
    coordinator::start_over(run_dir, state);
  } else {
    coordinator::refuse_earlier_run(run_dir, state);
    coordinator::keep_begun_rounds(config, run_dir, state);
    coordinator::refuse_other_configuration(run_dir, state, config);
  }
  if (!std::filesystem::exists(state / "state.sqlite")) {  // version 0 will be made of it
    wire::File::open_for_reading(config.federation.initial);
  }
  core::OutputFolder folder(run_dir);
  core::init_log(core::parse_log_level(options.common.log_level), run_dir / "log.txt");
  return folder.use([&] { return serve(config, state, parts, stop); });
}

}  // namespace

int main(int argc, char** argv) {
  drystone::core::keep_files_private();
  drystone::core::outlive_readers();
  drystone::core::raise_descriptor_limit();
  return core::run_program([&](const std::stop_token& stop) { return run(argc, argv, stop); });
}
