// A federation of every method at ranks 2 to 64, on every kind of base: what is published is the
// weighted sum of what the trained clients compute with, less the base, in each of three rounds.

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/zeros_like.h>
#include <doctest/doctest.h>

#include "adapters/registry.h"
#include "adapters/side_path.h"
#include "aggregation/rules.h"
#include "models/load.h"
#include "tensors/factor_set_io.h"
#include "tensors/threads.h"
#include "tests/simulation/tiny_models.h"
#include "tests/temporary_folder.h"
#include "training/trainer.h"

using namespace drystone;

namespace {

constexpr std::array<std::int64_t, 6> kRanks = {2, 4, 8, 16, 32, 64};
constexpr std::uint64_t kRounds = 3;
/// Relative to the weight: its entries are fp32, 6e-8 each, and so is every product behind them.
constexpr double kTolerance = 1e-6;

using Weights = std::map<std::string, at::Tensor>;

/// What a linear multiplies by, adapter included, in double precision: its outputs for the unit
/// vectors. A 16-bit weight is widened meanwhile, so that fp32 is what is measured.
at::Tensor effective_weight(models::Linear& linear) {
  const at::NoGradGuard no_grad;
  const at::Tensor held = linear.weight;
  if (held.defined()) linear.weight = held.to(at::kFloat);
  const at::Tensor bias = std::exchange(linear.bias, at::Tensor());
  const at::Tensor units = at::eye(linear.in_features(), at::kFloat);
  const at::Tensor columns = linear.forward(units);
  linear.weight = held;
  linear.bias = bias;
  return columns.t().to(at::kDouble);
}

Weights effective_weights(models::Model& model) {
  Weights weights;
  for (models::Linear* linear : model.linears()) weights[linear->name] = effective_weight(*linear);
  return weights;
}

/// The label is the first token modulo three; as a sequence, every token is the first.
training::Examples made_examples(models::Task task, const std::string& client, std::size_t count) {
  core::SplitMix64 random({3, 0, client, "examples"});
  training::Examples examples;
  examples.task = task;
  for (std::size_t i = 0; i < count; ++i) {
    const auto token = static_cast<text::TokenId>(1 + random.below(30));
    const std::vector<text::TokenId> ids(2 + random.below(6), token);
    if (task == models::Task::CausalLm) {
      examples.dataset.add_sequence(ids, ids);
    } else {
      examples.dataset.add(ids, token % 3, 0.0F);
    }
  }
  return examples;
}

class MixedFederation {
 public:
  explicit MixedFederation(models::ModelSpec spec)
      : spec_(std::move(spec)),
        base_(models::load_base(spec_)),
        pristine_(effective_weights(*models::build(spec_, base_))),
        state_(training::GlobalState::pristine(*models::build(spec_, base_))) {
    state_ = state_->apply(0, core::PublishMode::Add, {.modules = {}, .dense = state_->dense()});
  }

  /// Trains everybody, publishes, and compares.
  void run_round(std::uint64_t round) {
    aggregation::AggregationJob job{
        .updates = {}, .carry_in = {}, .output = folder_ / "published", .carry_out = {}};
    std::vector<std::pair<double, Weights>> trained;
    const Weights held = held_weights();
    for (std::size_t index = 0; index < adapters::methods().size(); ++index) {
      if (!adapters::methods()[index].trains) continue;
      const std::string method(adapters::methods()[index].name);
      CAPTURE(method);
      const std::int64_t rank = kRanks.at((index + 2 * round) % kRanks.size());
      const training::Examples examples = made_examples(spec_.task, method, 8 + index);
      trained.emplace_back(examples.dataset.size(), Weights());
      const tensors::FactorSet update = train(method, rank, round, examples, trained.back().second);
      const auto payload = folder_ / method;
      tensors::write_factor_set(payload, update);
      job.updates.push_back({method, examples.dataset.size(), payload});
    }
    const auto report = aggregation::make_rule(core::AggregationConfig())->aggregate(job);
    CHECK(report.exactness == "exact");
    state_ = state_->apply(round, core::PublishMode::Add, tensors::read_factor_set(job.output));
    compare(held, trained);
  }

  /// Largest over modules and rounds, relative to the weight and to what training changed.
  double worst_of_weight = 0.0;
  double worst_of_change = 0.0;

 private:
  tensors::FactorSet train(const std::string& method, std::int64_t rank, std::uint64_t round,
                           const training::Examples& examples, Weights& effective) const {
    const auto model = models::build(spec_, base_);
    core::TrainingConfig training;
    training.method = method;
    training.rank = rank;
    training.alpha = static_cast<double>(rank);
    training.max_steps = 2;
    training.batch_size = 4;
    training.learning_rate = 2e-2;
    training.schedule = "constant";
    training.warmup = 0.0;
    training.dropout = 0.1;
    const auto result = training::train_locally({.seed = 7,
                                                 .round = round,
                                                 .rounds = kRounds,
                                                 .client = method,
                                                 .training = adapters::resolve(training),
                                                 .state = state_},
                                                {.model = *model, .examples = examples},
                                                {.on_progress =
                                                     [&](const training::TrainProgress& progress) {
                                                       if (progress.step == progress.num_steps)
                                                         effective = effective_weights(*model);
                                                     },
                                                 .stop = {}});
    REQUIRE(result.has_value());
    return result->update;
  }

  /// What a round's training starts from: of a 16-bit base, what was published rounded to it.
  Weights held_weights() const {
    const auto model = models::build(spec_, base_);
    state_->install_for_training(*model);
    return effective_weights(*model);
  }

  /// The published version itself, fp32; beside a 4-bit base, base and factors together.
  Weights published_weights() const {
    if (spec_.quantization != models::Quantization::None) return held_weights();
    Weights weights;
    for (const auto& [name, pristine] : pristine_) {
      weights[name] = state_->weight(name).to(at::kDouble);
    }
    return weights;
  }

  void compare(const Weights& held, const std::vector<std::pair<double, Weights>>& trained) {
    double total = 0.0;
    for (const auto& [examples, weights] : trained) total += examples;
    for (const auto& [name, published] : published_weights()) {
      CAPTURE(name);
      at::Tensor& sum = sums_.try_emplace(name, at::zeros_like(published)).first->second;
      for (const auto& [examples, weights] : trained) {
        sum += (weights.at(name) - held.at(name)) * (examples / total);
      }
      const double error = (published - pristine_.at(name) - sum).norm().item<double>();
      const double of_weight = error / published.norm().item<double>();
      CHECK(of_weight < kTolerance);
      worst_of_weight = std::max(worst_of_weight, of_weight);
      worst_of_change = std::max(worst_of_change, error / sum.norm().item<double>());
    }
  }

  test::TemporaryFolder folder_;
  models::ModelSpec spec_;
  models::Base base_;
  Weights pristine_;
  Weights sums_;  ///< of all rounds' weighted changes
  training::GlobalStatePtr state_;
};

struct Kind {
  const char* name;
  at::ScalarType dtype;
  models::Quantization quantization;
};
constexpr std::array<Kind, 3> kKinds = {{{"float32", at::kFloat, models::Quantization::None},
                                         {"bfloat16", at::kBFloat16, models::Quantization::None},
                                         {"nf4", at::kFloat, models::Quantization::Nf4}}};

void check_all_kinds(const std::filesystem::path& model, models::Task task) {
  tensors::use_threads(1);
  for (const Kind& kind : kKinds) {
    CAPTURE(std::string(kind.name));
    MixedFederation federation({.folder = model,
                                .task = task,
                                .num_labels = 3,
                                .seed = 1,
                                .dtype = kind.dtype,
                                .quantization = kind.quantization});
    for (std::uint64_t round = 1; round <= kRounds; ++round) {
      CAPTURE(round);
      federation.run_round(round);
    }
    MESSAGE(std::string(kind.name)
            << ": error relative to the weight " << federation.worst_of_weight << ", to the change "
            << federation.worst_of_change);
  }
}

}  // namespace

TEST_CASE("mixed methods: an encoder's aggregate is the trained clients' weighted sum") {
  const test::TemporaryFolder folder;
  test::write_tiny_bert(folder / "model", {});
  check_all_kinds(folder / "model", models::Task::Classification);
}

TEST_CASE("mixed methods: a decoder's with grouped queries as well") {
  const test::TemporaryFolder folder;
  test::write_tiny_llama(folder / "model", {.hidden = 160, .intermediate = 192});
  check_all_kinds(folder / "model", models::Task::CausalLm);
}
