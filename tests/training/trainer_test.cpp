#include "training/trainer.h"

#include <cmath>

#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <doctest/doctest.h>

#include "adapters/registry.h"
#include "core/error.h"
#include "core/text.h"
#include "tensors/zero_update.h"
#include "tests/adapters/toy_model.h"
#include "tests/pretend_device.h"
#include "toy_examples.h"
#include "training/evaluator.h"
#include "training/step_count.h"

namespace drystone::training {
namespace {

core::TrainingConfig toy_training() {
  core::TrainingConfig training;
  training.rank = 4;
  training.batch_size = 4;
  training.epochs = 2;
  training.learning_rate = 1e-2;
  return training;
}

/// A state with a head of its own, as after version 0.
GlobalStatePtr start_state(models::Model& model) {
  const at::Tensor weight = test::keyed_normal(5, {3, 10}, 0.2);
  return GlobalState::pristine(model)->apply(0, core::PublishMode::Add,
                                             {.dense = {{"classifier.weight", weight}}});
}

struct Setup {
  explicit Setup(at::Device device = at::kCPU) {
    model.move(device);
    state = start_state(model);
  }

  test::ToyModel model;
  GlobalStatePtr state;
  core::TrainingConfig training = toy_training();
  Examples examples = test::toy_examples(1, 30);
  std::string client = "c";
  bool common_start = false;
  std::uint64_t round = 1;
  std::uint64_t rounds = 0;

  LocalResult run(const TrainHooks& hooks = {}) {
    return train_locally({.seed = 7,
                          .round = round,
                          .rounds = rounds,
                          .client = client,
                          .training = adapters::resolve(training),
                          .state = state,
                          .common_start = common_start},
                         {.model = model, .examples = examples}, hooks)
        .value();
  }
};

bool equal(const tensors::FactorSet& x, const tensors::FactorSet& y) {
  for (const auto& [name, pair] : x.modules) {
    if (!at::equal(pair.a, y.modules.at(name).a)) return false;
    if (!at::equal(pair.b, y.modules.at(name).b)) return false;
  }
  for (const auto& [name, tensor] : x.dense) {
    if (!at::equal(tensor, y.dense.at(name))) return false;
  }
  return x.modules.size() == y.modules.size() && x.dense.size() == y.dense.size();
}

TEST_CASE("train: same input, same bits; every part of the key matters") {
  Setup once;
  once.training.dropout = 0.2;
  const LocalResult first = once.run();
  CHECK(equal(first.update, once.run().update));  // the same instance again
  Setup again;
  again.training.dropout = 0.2;
  CHECK(equal(first.update, again.run().update));
  again.client = "d";
  CHECK_FALSE(equal(first.update, again.run().update));
}

TEST_CASE("train: counts, progress and a loss that falls over rounds") {
  Setup setup;
  std::vector<TrainProgress> seen;
  const LocalResult result =
      setup.run({.on_progress = [&](const TrainProgress& p) { seen.push_back(p); }, .stop = {}});
  CHECK(result.num_examples == 30);
  CHECK(result.num_steps == 16);  // 2 epochs of ⌈30 / 4⌉
  CHECK(result.num_tokens == static_cast<std::int64_t>(2 * setup.examples.dataset.num_tokens()));
  REQUIRE(seen.size() == 16);
  CHECK(seen.back().step == 16);
  CHECK(seen.back().num_steps == 16);
  CHECK(seen.back().num_tokens == result.num_tokens);
  double sum = 0.0;
  for (const TrainProgress& p : seen) sum += p.loss;
  CHECK(result.train_loss == doctest::Approx(sum / 16.0).epsilon(0.1));
  LocalResult next = result;
  for (std::uint64_t version = 1; version < 4; ++version) {
    setup.state = setup.state->apply(version, core::PublishMode::Add, next.update);
    next = setup.run();
  }
  CHECK(next.train_loss < 0.8 * result.train_loss);
}

TEST_CASE("train: another device learns what the CPU learns, and a step waits for it once") {
  Setup cpu;
  Setup other(test::pretend_device());
  std::vector<std::string> waits;
  const TrainHooks hooks{
      .on_progress = [&](const TrainProgress&) { waits.push_back(core::join(test::take_waits())); },
      .stop = {}};
  for (Setup* setup : {&cpu, &other}) {
    setup->model.own_dropout = 0.0;
    setup->training.gradient_accumulation = 2;
    setup->training.max_grad_norm = 1.0;
  }
  for (std::uint64_t version = 1; version < 3; ++version) {
    const LocalResult expected = cpu.run();
    waits.clear();
    test::take_waits();
    const LocalResult result = other.run(hooks);
    CHECK(result.train_loss == doctest::Approx(expected.train_loss).epsilon(1e-4));
    for (const auto& [name, factors] : result.update.modules) {
      const at::Tensor truth = expected.update.modules.at(name).product();
      CHECK(at::allclose(factors.product(), truth, 1e-2, 1e-4));
    }
    REQUIRE(waits.size() == static_cast<std::size_t>(result.num_steps));
    for (std::size_t i = 1; i < waits.size(); ++i) CHECK(waits[i] == "item");
    cpu.state = cpu.state->apply(version, core::PublishMode::Add, expected.update);
    other.state = other.state->apply(version, core::PublishMode::Add, result.update);
  }
  test::take_waits();
  for (Setup* setup : {&cpu, &other}) setup->state->install_for_training(setup->model);
  const auto expected = evaluate_model(cpu.model, cpu.examples, 8);
  const auto found = evaluate_model(other.model, other.examples, 8);
  CHECK(found->metrics.at("loss") == doctest::Approx(expected->metrics.at("loss")).epsilon(1e-4));
}

TEST_CASE("train: the update is what was learnt, relative to the state; model and state stay") {
  Setup setup;
  const at::Tensor base = setup.model.linears()[0]->weight.clone();
  const at::Tensor head = setup.state->dense().at("classifier.weight").clone();
  const LocalResult result = setup.run();
  CHECK(at::equal(setup.model.linears()[0]->weight, base));
  CHECK(at::equal(setup.state->dense().at("classifier.weight"), head));
  CHECK(setup.model.linears()[0]->adapter == nullptr);
  CHECK_FALSE(setup.model.dense().at("classifier.weight")->requires_grad());
  CHECK(result.update.modules.size() == 2);
  CHECK(result.update.dense.at("classifier.weight").norm().item<double>() > 0.0);
  CHECK(result.update.modules.begin()->second.product().norm().item<double>() > 0.0);
}

TEST_CASE("train: in bfloat16 it learns as in float32, and the model is float32's again") {
  Setup setup;
  const LocalResult exact = setup.run();
  setup.training.precision = "bfloat16";
  const LocalResult rounded = setup.run();
  CHECK_FALSE(equal(rounded.update, exact.update));
  CHECK(rounded.train_loss == doctest::Approx(exact.train_loss).epsilon(0.02));
  CHECK((rounded.update.modules.begin()->second.a.scalar_type() == at::kFloat));
  LocalResult next = rounded;
  for (std::uint64_t version = 1; version < 4; ++version) {
    setup.state = setup.state->apply(version, core::PublishMode::Add, next.update);
    next = setup.run();
  }
  CHECK(next.train_loss < 0.8 * rounded.train_loss);
  CHECK_FALSE(setup.model.linears()[0]->rounds);
}

TEST_CASE("train: gradient accumulation is the large batch, also with a small rest") {
  Setup large;
  large.training.epochs = 1;
  large.training.batch_size = 30;
  Setup small;
  small.training.epochs = 1;
  small.training.batch_size = 7;  // 7, 7, 7, 7, 2
  small.training.gradient_accumulation = 5;
  for (Setup* setup : {&large, &small}) {
    setup->training.warmup = 0.0;
    setup->model.own_dropout = 0.0;
  }
  const LocalResult expected = large.run();
  const LocalResult actual = small.run();
  CHECK(expected.num_steps == 1);
  CHECK(actual.num_steps == 1);
  CHECK(actual.train_loss == doctest::Approx(expected.train_loss).epsilon(1e-5));
  for (const auto& [name, tensor] : expected.update.dense) {
    CHECK(at::allclose(actual.update.dense.at(name), tensor, 1e-3, 1e-6));
  }
}

TEST_CASE("train: a bi-level method trains on what is not held out, with four passes a cycle") {
  Setup setup;
  setup.training.method = "bilora";
  setup.training.options["held_out"] = 0.2;
  const LocalResult result = setup.run();
  CHECK(result.num_examples == 30);  // the client's weight
  CHECK(result.num_steps == 2 * 6);  // 24 examples in batches of 4, twice
  CHECK(result.num_passes == 4 * 12);
  CHECK(equal(result.update, setup.run().update));
  setup.training.options["hypergradient"] = std::string("first-order");
  const LocalResult first_order = setup.run();
  CHECK(first_order.num_passes == 2 * 12);
  CHECK_FALSE(equal(first_order.update, result.update));
  setup.training.method = "lora";
  setup.training.options.clear();
  CHECK(setup.run().num_passes == setup.run().num_steps);
}

TEST_CASE("train: every method, with the model's own dropout, gives the same bits twice") {
  for (const adapters::Method& method : adapters::methods()) {
    if (!method.trains) continue;
    CAPTURE(method.name);
    Setup setup;
    setup.training.method = method.name;
    setup.training.gradient_accumulation = 2;
    setup.training.max_grad_norm = 1.0;
    CHECK(equal(setup.run().update, setup.run().update));
  }
}

TEST_CASE("num_steps: epochs, accumulation and max_steps") {
  core::TrainingConfig training = toy_training();
  CHECK(num_steps(training, 30) == 16);
  CHECK(num_steps(training, 1) == 2);
  training.gradient_accumulation = 3;
  CHECK(num_steps(training, 30) == 6);
  training.max_steps = 5;
  CHECK(num_steps(training, 30) == 5);
  training.batch_size = 0;
  CHECK_THROWS_AS(num_steps(training, 30), core::InvalidArgument);
}

/// From B = 0 Adam's first step moves every entry by the learning rate.
double first_rate(const LocalResult& result, const core::TrainingConfig& training) {
  const double scale = training.alpha / static_cast<double>(training.rank);
  return result.update.modules.begin()->second.b.abs().max().item<double>() / scale;
}

TEST_CASE("train: a client of one text and one step learns with the default schedule") {
  const core::TrainingConfig defaults;
  for (const std::int64_t num_examples : {1, 4, 16}) {
    CAPTURE(num_examples);
    Setup setup;
    setup.training.schedule = defaults.schedule;
    setup.training.warmup = defaults.warmup;
    setup.training.schedule_over = defaults.schedule_over;
    setup.training.batch_size = 16;
    setup.training.epochs = 1;
    setup.examples = test::toy_examples(1, num_examples);
    setup.rounds = 3;
    const LocalResult result = setup.run();
    CHECK(result.num_steps == 1);
    CHECK(first_rate(result, setup.training) > 0.4 * setup.training.learning_rate);
    CHECK_FALSE(tensors::moves_nothing(result.update));
  }
}

TEST_CASE("train: the schedule spans the round, or the whole federation") {
  Setup setup;
  setup.training.max_steps = 1;
  setup.training.warmup = 0.25;
  setup.rounds = 4;
  const std::vector<double> over_federation = {0.5, 1.0, 2.0 / 3.0, 1.0 / 3.0};
  for (std::uint64_t round = 1; round <= 4; ++round) {
    CAPTURE(round);
    setup.round = round;
    setup.training.schedule_over = "round";
    CHECK(first_rate(setup.run(), setup.training) == doctest::Approx(1e-2).epsilon(1e-3));
    setup.training.schedule_over = "federation";
    CHECK(first_rate(setup.run(), setup.training) ==
          doctest::Approx(1e-2 * over_federation[round - 1]).epsilon(1e-3));
  }
  setup.rounds = 0;  // unknown: each round by itself
  CHECK(first_rate(setup.run(), setup.training) == doctest::Approx(1e-2).epsilon(1e-3));
}

TEST_CASE("train: rank_scaling changes the adapter's rate or scale by its rank, never the head's") {
  Setup setup;
  setup.training.max_steps = 1;
  setup.training.alpha = 4.0;
  for (const std::int64_t rank : {2, 8, 10}) {
    CAPTURE(rank);
    setup.training.rank = rank;
    const auto rate = [&](const char* scaling) {
      setup.training.rank_scaling = scaling;
      const LocalResult result = setup.run();
      const at::Tensor& head = result.update.dense.at("classifier.weight");
      CHECK(head.abs().max().item<double>() == doctest::Approx(1e-2).epsilon(1e-3));
      return first_rate(result, setup.training);
    };
    const auto r = static_cast<double>(rank);
    CHECK(rate("none") == doctest::Approx(1e-2).epsilon(1e-3));
    CHECK(rate("rate") == doctest::Approx(1e-2 * std::sqrt(8.0 / r)).epsilon(1e-3));
    CHECK(rate("rslora") == doctest::Approx(1e-2 * std::sqrt(r)).epsilon(1e-3));
  }
  const LocalResult scaled = setup.run();
  setup.training.method = "rslora";  // is scaled by itself, not twice
  CHECK(equal(setup.run().update, scaled.update));
}

TEST_CASE("train: steps that float32 loses give an update of zeros") {
  Setup setup;
  setup.training.learning_rate = 1e-30;
  CHECK(tensors::moves_nothing(setup.run().update));
}

TEST_CASE("train: Replace continues from the published factors; a common start is common") {
  Setup setup;
  setup.training.max_steps = 1;
  setup.training.learning_rate = 1e-30;  // lost in float32: what comes out is the start
  setup.common_start = true;
  const LocalResult mine = setup.run();
  setup.client = "other";
  setup.training.rank = 2;
  const LocalResult other = setup.run();
  const auto& [name, factors] = *mine.update.modules.begin();
  CHECK(at::equal(factors.a.narrow(0, 0, 2), other.update.modules.at(name).a));

  const tensors::Factors published{.b = test::keyed_normal(1, factors.b.sizes()),
                                   .a = test::keyed_normal(2, factors.a.sizes())};
  setup.state = setup.state->apply(1, core::PublishMode::Replace, {.modules = {{name, published}}});
  setup.training.rank = 4;
  const LocalResult continued = setup.run();
  CHECK(at::allclose(continued.update.modules.at(name).b, published.b, 1e-6, 1e-6));
  CHECK(at::equal(continued.update.modules.at(name).a, published.a));
}

TEST_CASE("train: stops at once; a diverging run is refused with the remedy") {
  Setup setup;
  std::stop_source source;
  source.request_stop();
  CHECK_FALSE(train_locally({.training = adapters::resolve(setup.training), .state = setup.state},
                            {.model = setup.model, .examples = setup.examples},
                            {.on_progress = {}, .stop = source.get_token()}));
  CHECK(setup.model.linears()[0]->adapter == nullptr);

  setup.training.learning_rate = 1e30;
  CHECK_THROWS_WITH_AS(setup.run(), doctest::Contains("lower training.learning_rate"), core::Error);
  setup.examples = {};
  CHECK_THROWS_AS(setup.run(), core::InvalidArgument);
}

TEST_CASE("train: LoRA-Pro's moments of W go on from the client's last round when it keeps them") {
  Setup setup;
  setup.training.method = "lora-pro";
  setup.training.options = {{"mode", std::string("full")}, {"keep_moments", true}};
  const auto run = [&](const std::map<std::string, at::Tensor>* memory) {
    return train_locally({.seed = 7,
                          .round = 2,
                          .client = "c",
                          .training = adapters::resolve(setup.training),
                          .state = setup.state,
                          .memory = memory},
                         {.model = setup.model, .examples = setup.examples})
        .value();
  };
  const LocalResult fresh = run(nullptr);
  REQUIRE(fresh.memory.contains("encoder.layer.0.attention.query.mean"));
  CHECK(fresh.memory.at("encoder.layer.0.attention.query.steps").item<float>() ==
        static_cast<float>(fresh.num_steps));
  const LocalResult later = run(&fresh.memory);
  CHECK_FALSE(equal(later.update, fresh.update));
  CHECK(equal(later.update, run(&fresh.memory).update));
  CHECK(later.memory.at("encoder.layer.0.attention.query.steps").item<float>() ==
        static_cast<float>(2 * fresh.num_steps));
  setup.training.options = {{"mode", std::string("full")}};
  const LocalResult forgets = run(&fresh.memory);
  CHECK(equal(forgets.update, fresh.update));
  CHECK(forgets.memory.empty());
}

}  // namespace
}  // namespace drystone::training
