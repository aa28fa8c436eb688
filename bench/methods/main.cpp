// Every method of the registry with one budget: docs/methods-comparison.md.

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <thread>

#include "adapters/registry.h"
#include "bench/methods/table.h"
#include "core/error.h"
#include "core/log.h"
#include "core/program.h"
#include "core/text.h"
#include "core/worker_pool.h"
#include "tensors/process.h"

namespace {

using namespace drystone;
using namespace std::chrono_literals;

constexpr const char* kAbout =
    "Trains every method on each CONFIG with one budget: the same texts and steps, the rank whose\n"
    "number of parameters is closest to LoRA's, a learning rate that is chosen on validation "
    "texts.\n"
    "CONFIG is a federation's configuration; [training] is the budget, and a [[clients]] entry "
    "with a\n"
    "method gives that method's options. Runs are kept in a file: started again, it goes on where "
    "it\n"
    "was. With --out the tables are written as markdown.";

struct Options {
  std::vector<std::filesystem::path> configs;
  std::vector<std::string> overrides;
  std::vector<std::string> methods;
  std::filesystem::path runs = "runs/methods.jsonl";
  std::filesystem::path out;
  std::int64_t validation = 200;
  comparison::Plan plan;
};

void declare(core::CommandLine& line, Options& options) {
  line.option("CONFIG", options.configs, "A task").required();
  line.option("--set", options.overrides, "KEY=VALUE that replaces a key of every task");
  line.option("--methods", options.methods, "These alone; default: all").split_at_commas();
  line.option("--runs", options.runs, "File of the runs");
  line.option("--out", options.out, "Markdown file whose tables are replaced");
  line.option("--validation", options.validation, "Texts for choosing the learning rate")
      .check(core::whole_number({}));
  line.option("--grid", options.plan.grid, "Learning rates")
      .check(core::whole_number({.low = 1, .high = 20}));
  line.option("--factor", options.plan.factor, "From one learning rate to the next")
      .check(core::real_number({.low = 1.1, .high = 100.0}));
  line.option("--extend", options.plan.extend,
              "Further learning rates at most, while the best is at an end of the grid")
      .check(core::whole_number({.low = 0, .high = 20}));
  line.option("--seeds", options.plan.seeds, "Seeds of the test")
      .check(core::whole_number({.low = 1, .high = 100}));
}

std::vector<const adapters::Method*> chosen_methods(const Options& options) {
  std::vector<const adapters::Method*> chosen;
  for (const std::string& name : options.methods) adapters::find_method(name);  // or throws
  for (const adapters::Method& method : adapters::methods()) {
    const bool is_named = std::find(options.methods.begin(), options.methods.end(), method.name) !=
                          options.methods.end();
    if (method.trains && (options.methods.empty() || is_named)) chosen.push_back(&method);
  }
  return chosen;
}

void show(const std::string& task, const core::TrainingConfig& settings,
          const std::string& examples, std::uint64_t seed, const comparison::Outcome& outcome) {
  const std::string result =
      outcome.is_good() ? "loss " + core::format_fixed(outcome.at("loss"), 4) : outcome.problem;
  std::fprintf(stderr, "%s: %s: rank %lld, rate %s, %s, seed %llu: %s\n", task.c_str(),
               settings.method.c_str(), static_cast<long long>(settings.rank),
               core::format_double(settings.learning_rate).c_str(), examples.c_str(),
               static_cast<unsigned long long>(seed), result.c_str());
}

/// All methods on all tasks, a method on a task at a time on each worker.
class Comparison {
 public:
  Comparison(const Options& options, std::size_t workers, std::stop_token stop)
      : options_(options),
        stop_(std::move(stop)),
        runs_(options.runs),
        methods_(chosen_methods(options)),
        workers_(workers) {
    for (const std::filesystem::path& config : options.configs) {
      tasks_.push_back(std::make_unique<comparison::Task>(
          core::load_config(config, options.overrides), options.validation));
      rows_.emplace_back(methods_.size());
    }
  }

  /// @return whether all of it is done
  bool run() {
    for (std::size_t task = 0; task < tasks_.size(); ++task) {
      for (std::size_t method = 0; method < methods_.size(); ++method) post(task, method);
    }
    std::size_t done = 0;
    while (workers_.num_pending() > 0 && !stop_.stop_requested()) {
      const std::size_t before = workers_.num_pending();
      workers_.run_finished(200ms);
      if (workers_.num_pending() == before) continue;
      done += before - workers_.num_pending();
      std::fprintf(stderr, "-- %zu of %zu: a method on a task\n", done,
                   tasks_.size() * methods_.size());
    }
    return workers_.num_pending() == 0 && !stop_.stop_requested();
  }

  std::string tables() const {
    std::string text;
    for (std::size_t task = 0; task < tasks_.size(); ++task) {
      comparison::TaskRows rows{.task = *tasks_[task],
                                .start = tasks_[task]->evaluate_start(comparison::kTest),
                                .rows = {}};
      for (const auto& row : rows_[task]) {
        if (row) rows.rows.push_back(*row);
      }
      text += comparison::to_markdown(rows, options_.plan);
    }
    return text;
  }

 private:
  void post(std::size_t task, std::size_t method) {
    workers_.post([this, task, method]() -> core::WorkerPool::Continuation {
      const auto on_run = [&](const core::TrainingConfig& settings, const std::string& examples,
                              std::uint64_t seed, const comparison::Outcome& outcome) {
        show(tasks_[task]->name(), settings, examples, seed, outcome);
      };
      auto row = comparison::compare(*tasks_[task], *methods_[method], options_.plan, runs_, on_run,
                                     stop_);
      return [this, task, method, row = std::move(row)] { rows_[task][method] = row; };
    });
  }

  const Options& options_;
  std::stop_token stop_;
  comparison::RunFile runs_;
  std::vector<const adapters::Method*> methods_;
  std::vector<std::unique_ptr<comparison::Task>> tasks_;
  std::vector<std::vector<std::optional<comparison::Row>>> rows_;  ///< by task and method
  core::WorkerPool workers_;                                       ///< last: uses all of the above
};

int run(int argc, const char* const* argv, const std::stop_token& stop) {
  core::CommandLine line(kAbout, "methods");
  core::CommonOptions common;
  core::add_common_options(line, common);
  Options options;
  declare(line, options);
  if (const auto status = line.parse(argc, argv)) return *status;
  core::init_log(core::parse_log_level(common.log_level));
  const std::size_t workers = common.threads > 0
                                  ? static_cast<std::size_t>(common.threads)
                                  : std::max(1U, std::thread::hardware_concurrency());
  Comparison comparison(options, workers, stop);
  const bool is_done = comparison.run();
  const std::string tables = comparison.tables();
  if (!options.out.empty()) comparison::write_tables(options.out, tables);
  if (options.out.empty()) std::fputs(tables.c_str(), stdout);
  return is_done ? core::kDone : core::kFailed;
}

}  // namespace

int main(int argc, char** argv) {
  drystone::tensors::tune_process();
  return drystone::core::run_program(
      [&](const std::stop_token& stop) { return run(argc, argv, stop); });
}
