// drystone simulate: a whole federation in one process, or in several that a launcher started.

#include <algorithm>
#include <cstdio>
#include <exception>
#include <memory>
#include <new>

#include "aggregation/rule_check.h"
#include "cli/commands.h"
#include "cli/scratch_folder.h"
#include "client/contract.h"
#include "coordinator/console.h"
#include "coordinator/earlier_life.h"
#include "coordinator/run_folder.h"
#include "core/error.h"
#include "core/log.h"
#include "core/output_folder.h"
#include "core/progress.h"
#include "core/text.h"
#include "simulation/helper.h"
#include "simulation/link.h"
#include "simulation/simulator.h"

namespace drystone::cli {

namespace fs = std::filesystem;

namespace {

struct Options {
  fs::path config;
  fs::path out;
  std::vector<std::string> overrides;
  std::string memory_limit;
  bool resume = false;
  bool start_over = false;
};

bool holds_run(const fs::path& dir) { return fs::exists(dir / "state" / "state.sqlite"); }

/// DIR, DIR-2, DIR-3, …: the n-th run of one configuration.
fs::path numbered(const fs::path& dir, int number) {
  return number == 1 ? dir : fs::path(dir.string() + "-" + std::to_string(number));
}

bool is_configuration_of(const fs::path& run, const fs::path& config) {
  std::error_code ignored;  // no such file: not the same
  return fs::equivalent(run / "config.toml", config, ignored);
}

/// Every run has a folder of its own: without --out a further one is DIR-2, DIR-3, …, and --resume
/// means the last of them, or the one whose config.toml is given.
fs::path choose_folder(const Options& options, const fs::path& dir) {
  if (options.start_over) return dir;
  if (options.resume && is_configuration_of(dir, options.config)) return dir;
  if (!options.out.empty()) {
    if (holds_run(dir) && !options.resume) {
      throw core::ConfigError(dir.string() +
                              ": holds an earlier run; go on with it by --resume, delete it by "
                              "--start-over, or choose another folder by --out");
    }
    return dir;
  }
  int next = 1;
  while (holds_run(numbered(dir, next))) ++next;
  return numbered(dir, options.resume ? std::max(next - 1, 1) : next);
}

/// It has one client's share of the data, or none.
void refuse_clients_configuration(const core::Config& config) {
  if (config.security.coordinator_key.empty()) return;
  throw core::config_error(config, "security.coordinator_key",
                           "this is a deployed client's configuration: start it with "
                           "drystone-client; simulate takes the federation's, of which `drystone "
                           "provision` made it");
}

void refuse_client(const fs::path& dir) {
  if (!fs::exists(dir / client::kContractFile)) return;
  throw core::ConfigError(dir.string() + ": holds the state of a deployed client (" +
                          client::kContractFile + "); choose another folder by --out");
}

/// What is in the folder before anything is written there, and whether `config` goes on with it.
void check_folder(const Options& options, core::Config& config, const fs::path& dir) {
  const fs::path state = dir / "state";
  coordinator::refuse_earlier_run(dir, state);
  coordinator::keep_begun_rounds(config, dir, state);
  if (options.resume && !holds_run(dir)) {
    throw core::ConfigError(dir.string() +
                            ": holds no run to go on with; leave --resume out, or name the run's "
                            "folder by --out");
  }
  coordinator::refuse_other_configuration(dir, state, config);
}

int simulate(const core::Config& config, const fs::path& dir, const core::CommonOptions& common,
             const std::stop_token& stop, simulation::Link* link) {
  core::ProgressBoard board;
  coordinator::Console console(board, config.federation.rounds);
  coordinator::MetricsRecorder recorder(dir);
  const auto outcome = simulation::simulate(
      config, {.run_dir = dir, .device = common.device, .stop = stop, .link = link},
      {&console, &recorder});
  if (outcome.failure) throw core::Error(*outcome.failure);
  if (outcome.stopped) {
    std::puts(coordinator::stopped_text(outcome.report, dir, "--resume").c_str());
  } else {
    std::printf("\n%s\nin %s\n", coordinator::results_table(outcome.report).c_str(),
                core::visible(dir.string()).c_str());
  }
  return core::kDone;
}

core::Config load(const Options& options, const core::CommonOptions& common) {
  std::vector<std::string> overrides = options.overrides;
  if (!options.memory_limit.empty()) {
    overrides.push_back("training.memory_limit=" + options.memory_limit);
  }
  core::Config config = core::load_config(options.config, overrides);
  refuse_clients_configuration(config);
  aggregation::check_rule(config);
  if (!options.out.empty()) config.output.dir = options.out;
  if (common.threads > 0) config.simulation.workers = common.threads;
  return config;
}

/// Any process but the first: it writes and prints nothing, and has the first one tell what fails.
int help(const Options& options, const core::CommonOptions& common, const std::stop_token& stop,
         simulation::Link& link) {
  core::init_log(core::LogLevel::Off);
  try {
    const ScratchFolder scratch;
    simulation::help(load(options, common), link,
                     {.scratch = scratch.path(), .device = common.device, .stop = stop});
  } catch (const std::bad_alloc&) {
    simulation::tell_trouble(link, "out of memory");
  } catch (const std::exception& error) {
    simulation::tell_trouble(link, error.what());
  }
  return core::kDone;
}

int run(const Options& options, const core::CommonOptions& common, const std::stop_token& stop) {
  const std::unique_ptr<simulation::Link> link = simulation::open_link();
  if (link && link->index() > 0) return help(options, common, stop, *link);
  core::Config config = load(options, common);
  config.output.dir = choose_folder(options, config.output.dir);
  const fs::path dir = config.output.dir;
  refuse_client(dir);
  if (options.start_over) {
    coordinator::start_over(dir, dir / "state");
  } else {
    check_folder(options, config, dir);
  }
  core::OutputFolder folder(dir);
  core::init_log(core::parse_log_level(common.log_level), dir / "log.txt");
  return folder.use([&] { return simulate(config, dir, common, stop, link.get()); });
}

}  // namespace

Command add_simulate(core::CommandLine& line) {
  auto options = std::make_shared<Options>();
  line.option("CONFIG", options->config, "The federation's configuration").required();
  line.option("--out", options->out,
              "Run folder (default: output.dir, or output.dir-2, -3, … where that holds a run)");
  line.option("--set", options->overrides,
              "KEY=VALUE that replaces a key of the file, e.g. "
              "federation.rounds=5");
  line.option("--memory-limit", options->memory_limit,
              "What a client, and all of this, may take, e.g. 3GB: splits mini-batches, computes "
              "layers again, trains fewer clients at a time")
      .value_name("SIZE")
      .check(core::size());
  const auto resume = line.flag("--resume", options->resume,
                                "Go on with the run in --out, or with the last one in output.dir");
  line.flag("--start-over", options->start_over,
            "Delete the run in --out, or in output.dir, and begin anew")
      .excludes(resume);
  return [options](const core::CommonOptions& common, const std::stop_token& stop) {
    core::keep_files_private();
    core::outlive_readers();
    return run(*options, common, stop);
  };
}

}  // namespace drystone::cli
