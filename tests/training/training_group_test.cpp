// A group of local trainings gives each client what it would have learnt alone.

#include "training/training_group.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/mm.h>
#include <doctest/doctest.h>

#include "adapters/registry.h"
#include "core/seed.h"
#include "models/load.h"
#include "models/quantized/nf4.h"
#include "tensors/factor_set_io.h"
#include "tests/adapters/plain_model.h"
#include "tests/adapters/toy_model.h"
#include "toy_examples.h"
#include "training/trainer.h"

namespace drystone::training {
namespace {

using test::PlainShape;

/// Clients of one model and state.
struct Cohort {
  std::vector<core::TrainingConfig> trainings;
  std::vector<Examples> examples;
  GlobalStatePtr state;

  RoundTask task(std::size_t i) const {
    return {.seed = 5,
            .round = 2,
            .rounds = 3,
            .client = "client-" + std::to_string(i),
            .training = adapters::resolve(trainings[i]),
            .state = state};
  }
  std::vector<GroupTask> tasks() const {
    std::vector<GroupTask> tasks;
    for (std::size_t i = 0; i < trainings.size(); ++i) tasks.push_back({task(i), examples[i]});
    return tasks;
  }
};

double norm_of(const tensors::FactorSet& set) {
  double square = 0.0;
  for (const auto& [name, factors] : set.modules) {
    square += at::mm(factors.b, factors.a).square().sum().item<double>();
  }
  for (const auto& [name, tensor] : set.dense) square += tensor.square().sum().item<double>();
  return std::sqrt(square);
}

/// ‖a − b‖ / ‖b‖ over ΔW of all modules and dense parts.
double distance(const tensors::FactorSet& a, const tensors::FactorSet& b) {
  double square = 0.0;
  REQUIRE(a.modules.size() == b.modules.size());
  for (const auto& [name, factors] : b.modules) {
    const tensors::Factors& own = a.modules.at(name);
    const at::Tensor moved = at::mm(own.b, own.a) - at::mm(factors.b, factors.a);
    square += moved.square().sum().item<double>();
  }
  for (const auto& [name, tensor] : b.dense) {
    square += (a.dense.at(name) - tensor).square().sum().item<double>();
  }
  return std::sqrt(square) / norm_of(b);
}

core::TrainingConfig training_of(std::string_view method, std::int64_t rank) {
  core::TrainingConfig training;
  training.method = method;
  training.rank = rank;
  training.dropout = 0.2;
  training.batch_size = 4;
  training.learning_rate = 2e-3;
  return training;
}

void check_as_alone(models::Model& model, const Cohort& cohort, double tolerance) {
  const std::vector<GroupOutcome> grouped = train_group(model, cohort.tasks(), 0);
  REQUIRE(grouped.size() == cohort.trainings.size());
  for (std::size_t i = 0; i < grouped.size(); ++i) {
    CAPTURE(i);
    CAPTURE(cohort.trainings[i].method);
    REQUIRE(grouped[i].result);
    const LocalResult& own = *grouped[i].result;
    const LocalResult alone =
        train_locally(cohort.task(i), {.model = model, .examples = cohort.examples[i]}).value();
    CHECK(norm_of(alone.update) > 0.0);
    CHECK(distance(own.update, alone.update) < tolerance);
    CHECK(own.train_loss == doctest::Approx(alone.train_loss).epsilon(1e-5));
    CHECK(own.num_steps == alone.num_steps);
    CHECK(own.num_tokens == alone.num_tokens);
    CHECK(own.num_passes == alone.num_passes);
    CHECK(own.num_examples == alone.num_examples);
  }
}

TEST_CASE("train_group: every method of a classifier beside others, as alone") {
  test::ToyModel model;
  model.own_dropout = 0.0;
  Cohort cohort{.state = GlobalState::pristine(model)};
  std::uint64_t seed = 0;
  for (const adapters::Method& method : adapters::methods()) {
    if (!method.trains || method.inner != nullptr) continue;
    // Not more than a batch's rows: what LoRA-RITE divides by would be singular but for rounding.
    for (const std::int64_t rank : {2, 3}) {
      cohort.trainings.push_back(training_of(method.name, rank));
      cohort.trainings.back().gradient_accumulation = 1 + static_cast<std::int64_t>(seed % 3);
      cohort.trainings.back().max_grad_norm = seed % 2 == 0 ? 1.0 : 0.0;
      if (seed % 4 == 1) cohort.trainings.back().target_modules = {"query"};
      cohort.examples.push_back(test::toy_examples(seed, 7 + 5 * (seed % 4)));
      ++seed;
    }
  }
  check_as_alone(model, cohort, 2e-4);
}

models::Base small_llama() {
  const auto number = [](std::int64_t value) { return std::to_string(value); };
  const std::string config =
      R"({"model_type":"llama","vocab_size":)" + number(PlainShape::kVocab) + R"(,"hidden_size":)" +
      number(PlainShape::kHidden) + R"(,"num_hidden_layers":)" + number(PlainShape::kLayers) +
      R"(,"num_attention_heads":)" + number(PlainShape::kHeads) + R"(,"intermediate_size":)" +
      number(PlainShape::kWide) + R"(,"max_position_embeddings":)" +
      number(PlainShape::kPositions) + R"(,"rms_norm_eps":1e-6,"num_key_value_heads":)" +
      number(PlainShape::kKvHeads) + "}";
  return {.config = models::HfConfig::parse(config, "config.json"),
          .weights = test::PlainWeights::llama(),
          .quantized = {},
          .files = {}};
}

std::unique_ptr<models::Model> built(const models::Base& base) {
  return models::build({.folder = {}, .task = models::Task::CausalLm, .device = at::kCPU}, base);
}

/// Sequences of differing lengths whose first third is not learnt.
Examples sequences(std::uint64_t seed, std::size_t count) {
  core::SplitMix64 random(seed);
  Examples examples{.task = models::Task::CausalLm};
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<text::TokenId> ids(3 + random.below(25));
    for (text::TokenId& id : ids) {
      id = static_cast<text::TokenId>(2 + random.below(PlainShape::kVocab - 2));
    }
    std::vector<text::TokenId> labels = ids;
    std::fill_n(labels.begin(), labels.size() / 3, -100);
    examples.dataset.add_sequence(ids, labels);
  }
  return examples;
}

Cohort language_cohort(models::Model& model) {
  Cohort cohort{.state = GlobalState::pristine(model)};
  std::uint64_t seed = 40;
  for (const auto& [method, rank] : {std::pair{"lora", 1},
                                     {"lora", 64},
                                     {"rslora", 8},
                                     {"pissa", 4},
                                     {"kasa", 4},
                                     {"lora-rite", 16},
                                     {"sora", 3}}) {
    cohort.trainings.push_back(training_of(method, rank));
    cohort.examples.push_back(sequences(seed, 5 + seed % 4));
    ++seed;
  }
  return cohort;
}

TEST_CASE("train_group: a language model, ranks 1 to 64, rows in one pack or each its own") {
  const models::Base base = small_llama();
  const auto model = built(base);
  Cohort cohort = language_cohort(*model);
  check_as_alone(*model, cohort, 1e-3);
  for (Examples& examples : cohort.examples) examples.pack_to = 40;
  check_as_alone(*model, cohort, 1e-3);
}

TEST_CASE("train_group: beside 4-bit weights") {
  const models::Base base = small_llama();
  const auto model = built(base);
  for (models::Linear* const linear : model->linears()) {
    linear->quantized = c10::make_intrusive<models::Nf4Weight>(linear->weight);
    linear->weight.reset();
  }
  check_as_alone(*model, language_cohort(*model), 1e-3);
}

TEST_CASE("train_group: a client that fails or is stopped leaves the others alone") {
  test::ToyModel model;
  model.own_dropout = 0.0;
  Cohort cohort{.state = GlobalState::pristine(model)};
  for (const std::uint64_t seed : {1, 2, 3, 4}) {
    cohort.trainings.push_back(training_of("lora", 4));
    cohort.examples.push_back(test::toy_examples(seed, 20));
  }
  cohort.trainings[1].learning_rate = 1e30;
  std::stop_source stop;
  int steps = 0;
  std::vector<GroupTask> tasks = cohort.tasks();
  tasks[2].hooks = {.on_progress =
                        [&](const TrainProgress&) {
                          if (++steps == 2) stop.request_stop();
                        },
                    .stop = stop.get_token()};
  const std::vector<GroupOutcome> outcomes = train_group(model, tasks, 0);
  CHECK(outcomes[1].failure != nullptr);
  CHECK_THROWS_AS(std::rethrow_exception(outcomes[1].failure), TrainingFailed);
  CHECK_FALSE(outcomes[2].result);
  CHECK(outcomes[2].failure == nullptr);
  CHECK(steps == 2);
  for (const std::size_t i : {0, 3}) {
    const LocalResult alone =
        train_locally(cohort.task(i), {.model = model, .examples = cohort.examples[i]}).value();
    REQUIRE(outcomes[i].result);
    CHECK(distance(outcomes[i].result->update, alone.update) < 1e-5);
  }
  for (const models::Linear* const linear : model.linears()) CHECK(linear->adapter == nullptr);
}

TEST_CASE("train_group: a method, model or setting that cannot share trains with the bits of one") {
  test::ToyModel model;  // with dropout of its own
  Cohort cohort{.state = GlobalState::pristine(model)};
  for (const std::uint64_t seed : {1, 2}) {
    cohort.trainings.push_back(training_of("lora", 4));
    cohort.examples.push_back(test::toy_examples(seed, 20));
  }
  const auto check_bits = [&] {
    const std::vector<GroupOutcome> outcomes = train_group(model, cohort.tasks(), 0);
    for (const std::size_t i : {0, 1}) {
      const LocalResult alone =
          train_locally(cohort.task(i), {.model = model, .examples = cohort.examples[i]}).value();
      CHECK(tensors::to_bytes(outcomes[i].result.value().update) ==
            tensors::to_bytes(alone.update));
    }
  };
  check_bits();
  model.own_dropout = 0.0;
  cohort.trainings[0].method = "bilora";
  cohort.trainings[1].method = "flat-lora";
  check_bits();
}

}  // namespace
}  // namespace drystone::training
