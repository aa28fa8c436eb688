#include "bench/methods/task.h"

#include <cmath>
#include <ctime>
#include <utility>

#include "adapters/registry.h"
#include "client/federated_data.h"
#include "core/bytes.h"
#include "core/error.h"
#include "core/seed.h"
#include "crypto/hash.h"
#include "models/model.h"
#include "tensors/factor_set_io.h"

namespace drystone::comparison {

namespace {

constexpr const char* kTrain = "train";

/// Of this thread: other programs and the other worker do not count.
double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

training::WorkbenchConfig workbench_config(const core::Config& config) {
  training::WorkbenchConfig settings = client::workbench_config(config, "cpu");
  settings.seed = config.seed;
  return settings;
}

models::ModelSpec spec_of(const training::WorkbenchConfig& settings) {
  const models::Task task = models::parse_task(settings.model.task);
  return {.folder = settings.model.path,
          .task = task,
          .num_labels = task == models::Task::Classification
                            ? static_cast<std::int64_t>(settings.labels.size())
                            : 1,
          .dtype = models::parse_dtype(settings.model.dtype)};
}

/// The start of a training apart from its steps.
class StepTimer {
 public:
  StepTimer() : begin_(processor_seconds()), last_(begin_) {}

  void on_step() {
    const double now = processor_seconds();
    if (num_steps_++ == 0) first_ = now;
    last_ = now;
  }
  double step() const {
    return num_steps_ < 2 ? last_ - begin_ : (last_ - first_) / static_cast<double>(num_steps_ - 1);
  }
  double start() const { return first_ - begin_ - step(); }

 private:
  double begin_;
  double first_ = 0.0;
  double last_;
  std::int64_t num_steps_ = 0;
};

}  // namespace

Task::Task(core::Config config, std::int64_t validation)
    : config_(std::move(config)),
      workbench_(workbench_config(config_)),
      spec_(spec_of(workbench_config(config_))),
      base_(models::load_base(spec_)) {
  const training::GlobalStatePtr pristine = workbench_.pristine();
  start_ = pristine->apply(0, core::PublishMode::Add, {.modules = {}, .dense = pristine->dense()});
  load_examples(validation);
}

void Task::load_examples(std::int64_t validation) {
  client::Records train = client::load_train(config_);
  if (validation < 1 || static_cast<std::size_t>(validation) >= train.size()) {
    throw core::ConfigError("--validation: " + std::to_string(validation) + " of " +
                            std::to_string(train.size()) + " examples leaves none to train on");
  }
  core::SplitMix64 random({config_.seed, 0, "", "comparison-validation"});
  core::shuffle(train, random);
  const auto cut = train.end() - validation;
  workbench_.add_examples(kValidation, {cut, train.end()});
  workbench_.add_examples(kTrain, {train.begin(), cut});
  workbench_.add_examples(kTest, client::load_test(config_));
}

std::int64_t Task::num_parameters(const core::TrainingConfig& training) const {
  const std::unique_ptr<models::Model> model = models::build(spec_, base_);
  const auto adapter = adapters::make_adapter(*model, adapters::spec_of(training), {.round = 1});
  std::int64_t count = 0;
  for (const adapters::Parameter& parameter : adapter->parameters()) {
    count += parameter.tensor.numel();
  }
  return count;
}

core::TrainingConfig Task::settings_for(const adapters::Method& method) const {
  core::TrainingConfig lora = config_.training;
  lora.method = "lora";
  lora.options.clear();
  core::TrainingConfig settings = lora;
  settings.method = method.name;
  for (const core::ClientGroup& group : config_.clients) {
    if (group.training.method == method.name) settings.options = group.training.options;
  }
  const double target = static_cast<double>(num_parameters(lora));
  constexpr int kTurns = 3;  // the count is nearly proportional to the rank
  for (int turn = 0; turn < kTurns; ++turn) {
    const double count = static_cast<double>(num_parameters(settings));
    const auto rank = std::max<std::int64_t>(
        1, std::llround(static_cast<double>(settings.rank) * target / count));
    if (rank == settings.rank) break;
    settings.rank = rank;
    settings.alpha = lora.alpha * static_cast<double>(rank) / static_cast<double>(lora.rank);
  }
  return settings;
}

std::string Task::key(const core::TrainingConfig& training, std::uint64_t seed,
                      const std::string& examples) const {
  core::Config config = config_;
  config.clients.clear();
  config.training = training;
  config.seed = seed;
  const std::string text = core::semantic_text(config) + workbench_.base_sha256() +
                           std::to_string(workbench_.num_examples(kTrain)) +
                           std::to_string(workbench_.num_examples(examples));
  const std::string digest = core::to_hex(crypto::sha256(core::as_bytes(text))).substr(0, 16);
  return name() + "/" + training.method + "/" + examples + "/" + digest;
}

std::optional<Outcome> Task::run(const core::TrainingConfig& training, std::uint64_t seed,
                                 const std::string& examples, const std::stop_token& stop) const {
  Outcome outcome;
  std::map<std::string, double>& numbers = outcome.numbers;
  training::GlobalStatePtr state = start_;
  const std::int64_t rounds = config_.federation.rounds;
  for (std::int64_t round = 1; round <= rounds; ++round) {
    StepTimer timer;
    const auto result = workbench_.train(
        {.seed = seed,
         .round = static_cast<std::uint64_t>(round),
         .rounds = static_cast<std::uint64_t>(rounds),
         .client = kTrain,
         .training = training,
         .state = state},
        {.on_progress = [&](const training::TrainProgress&) { timer.on_step(); }, .stop = stop});
    if (!result) return std::nullopt;
    numbers["bytes"] += static_cast<double>(tensors::update_to_bytes(result->update).size());
    numbers["steps"] += static_cast<double>(result->num_steps);
    numbers["passes"] += static_cast<double>(result->num_passes);
    numbers["start_seconds"] += timer.start();
    numbers["step_seconds"] += timer.step() / static_cast<double>(rounds);
    state = state->apply(static_cast<std::uint64_t>(round), core::PublishMode::Add, result->update);
  }
  const auto evaluation = workbench_.evaluate(*state, examples, {.on_progress = {}, .stop = stop});
  if (!evaluation) return std::nullopt;
  for (const auto& [name, value] : evaluation->metrics) numbers[name] = value;
  return outcome;
}

Outcome Task::evaluate_start(const std::string& examples) const {
  return {.numbers = workbench_.evaluate(*start_, examples)->metrics, .problem = {}};
}

}  // namespace drystone::comparison
