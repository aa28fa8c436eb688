// What clients gain that train as one group: the same trainings in one group and one by one, on a
// random Llama that is made in memory. Clients have the given ranks in turn. Checks that each
// client learns in the group what it learns alone; exits with 1 where one does not.
// Run: build/bench/group_bench SHAPE [--rows 8x1x128,…] [--ranks 4,8,…] [--dtype bfloat16] …

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <c10/core/CachingDeviceAllocator.h>

#include "adapters/registry.h"
#include "aggregation/update_norms.h"
#include "bench/group_bench/random_llama.h"
#include "core/check.h"
#include "core/error.h"
#include "core/seed.h"
#include "core/text.h"
#include "models/device.h"
#include "tensors/process.h"
#include "tensors/threads.h"
#include "training/trainer.h"
#include "training/training_group.h"

namespace {

using namespace drystone;
using Clock = std::chrono::steady_clock;

/// What is timed, and a line of the table.
struct Row {
  std::size_t clients = 0;
  std::int64_t batch = 0;   ///< sequences of one client
  std::int64_t tokens = 0;  ///< of a sequence
};

struct Settings {
  group_bench::LlamaShape shape;
  std::vector<Row> rows;
  std::vector<std::int64_t> ranks;
  std::int64_t steps = 0;  ///< timed, after one that is not
  std::string dtype;
  at::Device device = at::kCPU;
  double peak = 0.0;       ///< FLOP/s; 0: unknown
  double tolerance = 0.0;  ///< of ‖ΔW grouped − ΔW alone‖ / ‖ΔW alone‖
};

/// From the end of the last client's first step to the end of the last client's last one: every
/// step but the first, however they are queued.
class Watch {
 public:
  explicit Watch(std::int64_t num_steps) : num_steps_(num_steps) {}
  training::TrainHooks hooks() {
    return {.on_progress = [this](const training::TrainProgress& progress) { note(progress); }};
  }
  double seconds() const { return std::chrono::duration<double>(end_ - begin_).count(); }
  std::int64_t tokens() const { return tokens_; }

 private:
  void note(const training::TrainProgress& progress) {
    if (progress.step == 1) {
      core::ensure(end_ == Clock::time_point(), "group_bench: a client of the group trained alone");
      begin_ = Clock::now();
      tokens_ -= progress.num_tokens;
    } else if (progress.step == num_steps_) {
      end_ = Clock::now();
      tokens_ += progress.num_tokens;
    }
  }

  std::int64_t num_steps_;
  Clock::time_point begin_, end_;
  std::int64_t tokens_ = 0;
};

/// The clients of a row.
class Cohort {
 public:
  Cohort(const Settings& settings, const Row& row, models::Model& model)
      : state_(training::GlobalState::pristine(model)) {
    const std::int64_t num_steps = settings.steps + 1;
    for (std::size_t i = 0; i < row.clients; ++i) {
      core::TrainingConfig training;
      training.rank = settings.ranks[i % settings.ranks.size()];
      training.batch_size = row.batch;
      training.schedule = "constant";
      training.warmup = 0.0;
      trainings_.push_back(training);
      examples_.push_back({.task = models::Task::CausalLm});
      core::SplitMix64 random(i);
      for (std::int64_t sequence = 0; sequence < row.batch * num_steps; ++sequence) {
        std::vector<text::TokenId> ids(static_cast<std::size_t>(row.tokens));
        for (text::TokenId& id : ids) {
          const auto choices = static_cast<std::uint64_t>(settings.shape.vocabulary - 3);
          id = static_cast<text::TokenId>(3 + random.below(choices));
        }
        examples_.back().dataset.add_sequence(ids, ids);
      }
    }
  }

  std::size_t size() const { return trainings_.size(); }
  const training::Examples& examples(std::size_t i) const { return examples_[i]; }
  training::RoundTask task(std::size_t i) const {
    return {.seed = 1,
            .round = 1,
            .rounds = 1,
            .client = "client-" + std::to_string(i),
            .training = adapters::resolve(trainings_[i]),
            .state = state_};
  }

 private:
  training::GlobalStatePtr state_;
  std::vector<core::TrainingConfig> trainings_;
  std::vector<training::Examples> examples_;
};

/// ‖ΔW of a − ΔW of b‖ / ‖ΔW of b‖ over all modules.
double distance(const tensors::FactorSet& a, const tensors::FactorSet& b) {
  core::ensure(a.modules.size() == b.modules.size(), "group_bench: unequal modules");
  double moved = 0.0;
  double whole = 0.0;
  for (const auto& [name, alone] : b.modules) {
    const tensors::Factors& grouped = a.modules.at(name);
    const double norm = aggregation::product_norm(alone);
    const double difference =
        aggregation::product_norm({.b = at::cat({grouped.b, alone.b.neg()}, /*dim=*/1),
                                   .a = at::cat({grouped.a, alone.a}, /*dim=*/0)});
    whole += norm * norm;
    moved += difference * difference;
  }
  return std::sqrt(moved / whole);
}

struct Outcome {
  double grouped = 0.0;      ///< tokens/s
  double alone = 0.0;        ///< tokens/s, one client after the other
  double distance = 0.0;     ///< of the client that differs most
  double loss = 0.0;         ///< relative difference, the largest
  std::uint64_t memory = 0;  ///< bytes, of the group
  bool is_equal = true;      ///< counts are equal, and the differences within bounds
};

/// A group's sums are rounded as its size has them: losses are means over all of a client's tokens.
constexpr double kLossTolerance = 5e-3;

void compare(const Settings& settings, const training::LocalResult& grouped,
             const training::LocalResult& alone, Outcome& outcome) {
  const double moved = distance(grouped.update, alone.update);
  const double loss = std::abs(grouped.train_loss - alone.train_loss) / alone.train_loss;
  outcome.distance = std::max(outcome.distance, moved);
  outcome.loss = std::max(outcome.loss, loss);
  outcome.is_equal = outcome.is_equal && moved <= settings.tolerance && loss <= kLossTolerance &&
                     grouped.num_steps == alone.num_steps && grouped.num_tokens == alone.num_tokens;
}

Outcome measure(const Settings& settings, const Row& row, models::Model& model) {
  const Cohort cohort(settings, row, model);
  const std::int64_t num_steps = settings.steps + 1;
  Outcome outcome;
  Watch together(num_steps);
  std::vector<training::GroupTask> tasks;
  for (std::size_t i = 0; i < cohort.size(); ++i) {
    tasks.push_back({cohort.task(i), cohort.examples(i), together.hooks()});
  }
  const std::vector<training::GroupOutcome> grouped = training::train_group(model, tasks, 0);
  for (const training::GroupOutcome& each : grouped) {
    if (each.failure != nullptr) std::rethrow_exception(each.failure);
  }
  outcome.grouped = static_cast<double>(together.tokens()) / together.seconds();
  outcome.memory = models::peak_memory(settings.device);
  double seconds = 0.0;
  std::int64_t tokens = 0;
  for (std::size_t i = 0; i < cohort.size(); ++i) {
    Watch watch(num_steps);
    const training::TrainingSite site{.model = model, .examples = cohort.examples(i)};
    const auto alone = training::train_locally(cohort.task(i), site, watch.hooks());
    seconds += watch.seconds();
    tokens += watch.tokens();
    compare(settings, grouped[i].result.value(), alone.value(), outcome);
  }
  outcome.alone = static_cast<double>(tokens) / seconds;
  return outcome;
}

/// Of what the products of a forward and a backward pass through a frozen base allow: 4 · N
/// operations a token, N the weights that it is multiplied by.
std::string share(const Settings& settings, double tokens_per_second) {
  if (settings.peak == 0.0) return "–";
  const auto weights = static_cast<double>(settings.shape.num_product_weights());
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%",
                100.0 * tokens_per_second * 4.0 * weights / settings.peak);
  return text;
}

void print_head() {
  std::printf(
      "| shape | base | clients | batch | group, tokens/s | one by one | gain | group, of bound | "
      "one by one, of bound | memory, GB | ΔW differs | loss differs | check |\n"
      "|---|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|---|\n");
}

void print_row(const Settings& settings, const Row& row, const Outcome& outcome) {
  std::printf(
      "| %s | %s | %zu | %ld x %ld | %.0f | %.0f | %.2f | %s | %s | %.2f | %.1e | %.1e | %s |\n",
      settings.shape.name.c_str(), settings.dtype.c_str(), row.clients,
      static_cast<long>(row.batch), static_cast<long>(row.tokens), outcome.grouped, outcome.alone,
      outcome.grouped / outcome.alone, share(settings, outcome.grouped).c_str(),
      share(settings, outcome.alone).c_str(), 1e-9 * static_cast<double>(outcome.memory),
      outcome.distance, outcome.loss, outcome.is_equal ? "equal" : "DIFFERS");
}

/// What earlier rows left in the device's cache, and their peak.
void forget_memory(at::Device device) {
  if (device.is_cpu()) return;
  c10::DeviceAllocator* const allocator = c10::getDeviceAllocator(device.type());
  allocator->emptyCache();
  allocator->resetPeakStats(device.index());
}

/// @return  all rows are there, and all clients learnt in the group what they learn alone
bool measure_all(const Settings& settings) {
  const models::ModelSpec spec{.folder = {},
                               .task = models::Task::CausalLm,
                               .dtype = models::parse_dtype(settings.dtype),
                               .device = settings.device};
  const models::Base base = group_bench::random_llama(settings.shape, spec.dtype, spec.device);
  const auto model = models::build(spec, base);
  print_head();
  bool is_right = true;
  for (const Row& row : settings.rows) {
    try {
      forget_memory(settings.device);
      const Outcome outcome = measure(settings, row, *model);
      print_row(settings, row, outcome);
      is_right = is_right && outcome.is_equal;
    } catch (const std::exception& error) {  // too little memory for this one
      const std::string text = error.what();
      std::printf("| %s | %s | %zu | %ld x %ld | FAILED: %s |\n", settings.shape.name.c_str(),
                  settings.dtype.c_str(), row.clients, static_cast<long>(row.batch),
                  static_cast<long>(row.tokens), text.substr(0, text.find('\n')).c_str());
      is_right = false;
    }
    std::fflush(stdout);
  }
  return is_right;
}

std::vector<std::int64_t> numbers(const std::string& text, char separator) {
  std::vector<std::int64_t> all;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) all.push_back(std::stoll(part));
  return all;
}

std::vector<Row> parse_rows(const std::string& text) {
  std::vector<Row> rows;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) {
    const std::vector<std::int64_t> sizes = numbers(part, 'x');
    core::require(sizes.size() == 3 && std::ranges::min(sizes) > 0,
                  "rows: give CLIENTSxBATCHxTOKENS,…");
    rows.push_back({static_cast<std::size_t>(sizes[0]), sizes[1], sizes[2]});
  }
  return rows;
}

int usage() {
  std::fprintf(stderr,
               "usage: group_bench %s\n"
               "       [--rows CLIENTSxBATCHxTOKENS,…] [--ranks RANK,…] [--steps N]\n"
               "       [--dtype bfloat16|float32] [--device auto|cpu|cuda:N] [--threads N]\n"
               "       [--peak TFLOP/s] [--tolerance T] [--cudnn-attention 0|1]\n",
               core::join(group_bench::shape_names(), "|").c_str());
  return 2;
}

int run(const std::vector<std::string>& arguments) {
  std::map<std::string, std::string> options = {
      {"--rows", "8x1x128"},   {"--ranks", "4,8,16,32,64"}, {"--steps", "3"},
      {"--dtype", "bfloat16"}, {"--device", "auto"},        {"--threads", "1"},
      {"--peak", "0"},         {"--tolerance", "0"},        {"--cudnn-attention", "0"}};
  if (arguments.size() % 2 == 0) return usage();
  for (std::size_t i = 1; i < arguments.size(); i += 2) {
    const auto found = options.find(arguments[i]);
    if (found == options.end()) return usage();
    found->second = arguments[i + 1];
  }
  tensors::use_threads(std::stoi(options["--threads"]));
  // cuDNN's engines are compiled at run time, for every width anew.
  at::globalContext().setSDPUseCuDNN(options["--cudnn-attention"] == "1");
  Settings settings{.shape = group_bench::find_shape(arguments[0]),
                    .rows = parse_rows(options["--rows"]),
                    .ranks = numbers(options["--ranks"], ','),
                    .steps = std::max<std::int64_t>(1, std::stoll(options["--steps"])),
                    .dtype = options["--dtype"],
                    .device = models::parse_device(options["--device"]),
                    .peak = 1e12 * std::stod(options["--peak"]),
                    .tolerance = std::stod(options["--tolerance"])};
  core::require(!settings.ranks.empty(), "ranks: none");
  if (settings.tolerance == 0.0) settings.tolerance = settings.dtype == "bfloat16" ? 0.3 : 2e-3;
  return measure_all(settings) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  tensors::tune_process();
  try {
    return run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "group_bench: %s\n", error.what());
    return 2;
  }
}
