#include "training/ensemble.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "adapters/registry.h"
#include "core/error.h"
#include "tensors/factor_set_io.h"
#include "tensors/member_names.h"
#include "tests/adapters/toy_model.h"
#include "tests/pretend_device.h"
#include "toy_examples.h"
#include "training/early_stopping.h"
#include "training/member_evaluation.h"
#include "training/step_count.h"
#include "training/trainer.h"

namespace drystone::training {
namespace {

using core::PublishMode;

core::TrainingConfig toy_training(const core::Options& options) {
  core::TrainingConfig training;
  training.method = "lora-ensemble";
  training.rank = 4;
  training.batch_size = 4;
  training.epochs = 2;
  training.learning_rate = 1e-2;
  training.options = options;
  return training;
}

struct Setup {
  explicit Setup(at::Device device = at::kCPU) {
    model.move(device);
    const at::Tensor head = test::keyed_normal(5, {3, 10}, 0.2);
    state = GlobalState::pristine(model)->apply(0, PublishMode::Add,
                                                {.dense = {{"classifier.weight", head}}});
  }

  test::ToyModel model;
  GlobalStatePtr state;
  Examples examples = test::toy_examples(1, 30);

  LocalResult run(const core::TrainingConfig& training, std::uint64_t round = 1,
                  const TrainHooks& hooks = {}) {
    const RoundTask task{.seed = 7,
                         .round = round,
                         .client = "c",
                         .training = adapters::resolve(training),
                         .state = state};
    const TrainingSite site{.model = model, .examples = examples};
    const auto settings = adapters::ensemble_settings(task.training.spec);
    return (settings ? train_ensemble(task, site, *settings, hooks)
                     : train_locally(task, site, hooks))
        .value();
  }
  void publish(const tensors::FactorSet& update) {
    state =
        state->apply(static_cast<std::uint64_t>(state->version() + 1), PublishMode::Add, update);
  }
};

core::Bytes bytes_of(const tensors::FactorSet& set) { return tensors::to_bytes(set); }

TEST_CASE("ensemble: of one member it is the plain method, bit for bit, over rounds") {
  Setup plain;
  Setup ensemble;
  core::TrainingConfig lora = toy_training({});
  lora.method = "lora";
  for (std::uint64_t round = 1; round <= 2; ++round) {
    const auto one = plain.run(lora, round).update;
    const auto other = ensemble.run(toy_training({{"members", std::int64_t{1}}}), round).update;
    CHECK(bytes_of(one) == bytes_of(other));
    plain.publish(one);
    ensemble.publish(other);
  }
}

TEST_CASE("ensemble: member 0 is the plain method's training, the others are others") {
  Setup setup;
  core::TrainingConfig lora = toy_training({});
  lora.method = "lora";
  const auto plain = setup.run(lora);
  std::vector<std::int64_t> steps;
  const auto ensemble = setup.run(
      toy_training({{"members", std::int64_t{3}}}), 1,
      {.on_progress = [&](const TrainProgress& p) { steps.push_back(p.step); }, .stop = {}});
  const tensors::SplitSet split = tensors::split_members(ensemble.update);
  CHECK(split.shared.modules.empty());
  CHECK(split.shared.dense.empty());
  REQUIRE(split.members.size() == 3);
  CHECK(bytes_of(split.members.at(0)) == bytes_of(plain.update));
  CHECK(bytes_of(split.members.at(1)) != bytes_of(plain.update));
  CHECK(bytes_of(split.members.at(1)) != bytes_of(split.members.at(2)));
  CHECK(ensemble.num_steps == 3 * plain.num_steps);
  CHECK(ensemble.num_examples == plain.num_examples);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    CHECK(steps[i] == static_cast<std::int64_t>(i) + 1);
  }
}

TEST_CASE("ensemble: one shared chain until the fork, members afterwards, the same every time") {
  const auto run = [] {
    Setup setup;
    const auto training =
        toy_training({{"members", std::int64_t{2}}, {"start_round", std::int64_t{2}}});
    const auto first = setup.run(training, 1).update;
    CHECK(tensors::split_members(first).members.empty());
    setup.publish(first);
    const GlobalStatePtr fork = setup.state;
    const auto second = setup.run(training, 2).update;
    CHECK(tensors::split_members(second).members.size() == 2);
    setup.publish(second);
    for (const auto& [name, weight] : fork->pristine_weights()) {
      CHECK(setup.state->weight(name).is_same(fork->weight(name)));  // members never go into W
      CHECK_FALSE(at::equal(setup.state->member(0)->weight(name), fork->weight(name)));
    }
    return bytes_of(first) == bytes_of(second) ? core::Bytes() : bytes_of(second);
  };
  const core::Bytes bytes = run();
  CHECK_FALSE(bytes.empty());
  CHECK(bytes == run());
}

TEST_CASE("ensemble: a client of a cluster sends its own member alone") {
  Setup setup;
  const auto update = setup
                          .run(toy_training({{"members", std::int64_t{4}},
                                             {"assign", std::string("cluster")},
                                             {"member", std::int64_t{2}}}))
                          .update;
  const tensors::SplitSet split = tensors::split_members(update);
  REQUIRE(split.members.size() == 1);
  CHECK(split.members.begin()->first == 2);
}

TEST_CASE("ensemble: a later round goes on from the member's own sum and head") {
  Setup setup;
  const auto training = toy_training({{"members", std::int64_t{2}}});
  setup.publish(setup.run(training, 1).update);
  const auto own = setup.state->member(1);
  const tensors::FactorSet& sum = *setup.state->members().find(1);
  for (const auto& [name, factors] : sum.modules) {
    CHECK(
        at::allclose(own->weight(name), setup.state->weight(name) + factors.product(), 1e-5, 1e-6));
  }
  const std::string head = "classifier.weight";
  CHECK(at::allclose(own->dense().at(head), setup.state->dense().at(head) + sum.dense.at(head)));
  CHECK(own->members().empty());

  const RoundTask task{.seed = adapters::member_seed(7, 1),
                       .round = 2,
                       .client = "c",
                       .training = adapters::resolve(training),
                       .state = own};
  const auto alone =
      train_locally(task, {.model = setup.model, .examples = setup.examples})->update;
  const auto together = tensors::split_members(setup.run(training, 2).update);
  CHECK(bytes_of(together.members.at(1)) == bytes_of(alone));
}

TEST_CASE("MemberStates: sums stay exact without a bound; with one the tail is told") {
  const auto version = [](std::uint64_t seed) {
    return tensors::FactorSet{.modules = {{"q",
                                           {.b = test::keyed_normal(seed, {8, 2}),
                                            .a = test::keyed_normal(seed + 1, {2, 6})}}}};
  };
  MemberStates exact;
  MemberStates bounded(3);
  at::Tensor sum = at::zeros({8, 6});
  for (std::uint64_t seed : {10, 20, 30}) {
    exact.add(1, version(seed));
    bounded.add(1, version(seed));
    sum = sum + version(seed).modules.at("q").product();
  }
  CHECK(exact.all().size() == 1);
  CHECK(exact.find(0) == nullptr);
  CHECK(at::allclose(exact.find(1)->modules.at("q").product(), sum, 1e-4, 1e-5));
  CHECK(exact.relative_tail() == 0.0);
  CHECK(bounded.find(1)->modules.at("q").rank() == 3);
  CHECK(bounded.relative_tail() > 0.01);
  CHECK(bounded.relative_tail() < 1.0);
  CHECK(bounded.num_bytes() == 3 * (8 + 6) * 4);
}

TEST_CASE("GlobalState: members of unknown modules, shapes or beside averages are refused") {
  Setup setup;
  const auto apply = [&](const tensors::FactorSet& set, PublishMode mode = PublishMode::Add) {
    return setup.state->apply(1, mode, set);
  };
  CHECK_THROWS_AS(
      apply({.modules = {{"member-0/nowhere", {.b = at::ones({2, 1}), .a = at::ones({1, 2})}}}}),
      core::InvalidArgument);
  CHECK_THROWS_AS(apply({.dense = {{"member-0/classifier.bias", at::ones({7})}}}),
                  core::InvalidArgument);
  CHECK_NOTHROW(apply({.dense = {{"member-0/classifier.bias", at::ones({3})}}}));
}

TEST_CASE("split_members: names with a number, and only those") {
  using tensors::split_member;
  CHECK(split_member("member-12/a.b")->member == 12);
  CHECK(split_member("member-12/a.b")->name == "a.b");
  CHECK(tensors::member_name(3, "x") == "member-3/x");
  for (const char* name : {"a.b", "member-", "member-/x", "member-01/x", "member-1x/x",
                           "member--1/x", "member-1", "member-99999999/x"}) {
    CAPTURE(name);
    CHECK_FALSE(split_member(name).has_value());
  }
}

/// The mean over a model's members, and each of them by its own folded weights.
struct Ensemble {
  explicit Ensemble(std::int64_t members, at::Device device = at::kCPU) : setup(device) {
    setup.publish(setup.run(toy_training({{"members", members}})).update);
  }
  std::vector<at::Tensor> one_by_one(const models::Batch& batch) {
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> all;
    for (const auto& [number, own] : setup.state->members().all()) {
      setup.state->member(number)->install_for_evaluation(setup.model);
      all.push_back(setup.model.logits(batch));
    }
    setup.state->install_for_evaluation(setup.model);
    return all;
  }
  Setup setup;
};

TEST_CASE("MemberPredictor: one pass over the base equals member by member to 1e-5") {
  Ensemble ensemble(3);
  const models::Batch batch = test::toy_batch(9, /*rows=*/11);
  const at::Tensor expected = at::stack(ensemble.one_by_one(batch));
  for (const bool batched : {true, false}) {
    CAPTURE(batched);
    MemberPredictor predictor(ensemble.setup.model, members_of(*ensemble.setup.state),
                              {.batched = batched});
    CHECK(predictor.is_batched() == batched);
    CHECK(at::allclose(predictor.logits(batch), expected, 0.0, 1e-5));
  }
  const at::Tensor head = *ensemble.setup.model.dense().at("classifier.weight");
  CHECK(head.sizes() == at::IntArrayRef({3, 10}));  // put back
  CHECK(ensemble.setup.model.linears()[0]->adapter == nullptr);
}

TEST_CASE("MemberPredictor: another device trains and predicts what the CPU does") {
  Ensemble cpu(3);
  Ensemble other(3, test::pretend_device());
  const models::Batch batch = test::toy_batch(9, /*rows=*/11);
  const auto logits = [&](Ensemble& ensemble) {
    MemberPredictor predictor(ensemble.setup.model, members_of(*ensemble.setup.state), {});
    return predictor.logits(batch).to(at::kCPU);
  };
  CHECK(at::allclose(logits(other), logits(cpu), 1e-2, 1e-3));
}

TEST_CASE("evaluate_members: p̄'s metrics, whatever the batch size, and never above the members'") {
  Ensemble ensemble(4);
  const Examples test = test::toy_examples(3, 37);
  const auto run = [&](std::int64_t batch, bool batched) {
    MemberPredictor predictor(ensemble.setup.model, members_of(*ensemble.setup.state),
                              {.batched = batched});
    return evaluate_members(ensemble.setup.model, predictor, test, batch)->metrics;
  };
  const Metrics one = run(64, true);
  const Metrics other = run(5, false);
  for (const auto& [name, value] : one) {
    CAPTURE(name);
    CHECK(value == doctest::Approx(other.at(name)).epsilon(1e-4));
  }
  CHECK(one.at("nll") <= one.at("nll_members"));
  CHECK(one.at("uncertainty_epistemic") > 0.0);
  CHECK(one.contains("nll_member_3"));
}

TEST_CASE("early stopping: keeps the best state, ends after its patience, refuses a second split") {
  EarlyStopping rule({.share = 0.2, .every = 3, .patience = 2});
  CHECK_FALSE(rule.looks_after(0, 100));
  CHECK(rule.looks_after(2, 100));
  CHECK(rule.looks_after(99, 100));
  CHECK(rule.is_best(1.0));
  CHECK_FALSE(rule.is_best(1.5));
  CHECK_FALSE(rule.is_over());
  CHECK_FALSE(rule.is_best(1.0));
  CHECK(rule.is_over());

  Setup setup;
  core::TrainingConfig training = toy_training({{"members", std::int64_t{1}},
                                                {"stop_share", 0.3},
                                                {"stop_every", std::int64_t{1}},
                                                {"stop_patience", std::int64_t{3}}});
  training.epochs = 60;
  training.learning_rate = 0.3;  // overshoots soon
  const auto stopped = setup.run(training);
  CHECK(stopped.num_steps < num_steps(training, 30));
  CHECK(bytes_of(stopped.update) == bytes_of(setup.run(training).update));
  training.options["of"] = std::string("bilora");
  CHECK_THROWS_WITH_AS(setup.run(training), doctest::Contains("stop_share"), core::ConfigError);
}

}  // namespace
}  // namespace drystone::training
