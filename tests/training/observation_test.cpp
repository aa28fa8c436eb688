#include "training/observation.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <doctest/doctest.h>

#include "adapters/registry.h"
#include "tests/adapters/toy_model.h"
#include "tests/pretend_device.h"
#include "toy_examples.h"
#include "training/trainer.h"

namespace drystone::training {
namespace {

/// A model at a version that publishes factors to observe.
struct Setup {
  test::ToyModel model;
  GlobalStatePtr state;
  core::TrainingConfig training;
  Examples examples = test::toy_examples(1, 30);

  explicit Setup(at::Device device = at::kCPU) {
    model.move(device);
    tensors::FactorSet published;
    for (const models::Linear* linear : model.linears()) {
      published.modules[linear->name] = {.b = test::keyed_normal(8, {linear->out_features(), 2}),
                                         .a = test::keyed_normal(9, {2, linear->in_features()})};
    }
    state = GlobalState::pristine(model)->apply(0, core::PublishMode::Replace, published);
    training.method = "laplace-lora";
    training.rank = 2;
    training.batch_size = 7;
  }
  std::optional<LocalResult> run(const TrainHooks& hooks = {}) {
    return train_locally({.seed = 7,
                          .round = 1,
                          .client = "c",
                          .training = adapters::resolve(training),
                          .state = state},
                         {.model = model, .examples = examples}, hooks);
  }
};

TEST_CASE("observe: statistics without modules, zero differences, every example once") {
  Setup setup;
  const at::Tensor weight = setup.model.linears()[0]->weight.clone();
  std::int64_t calls = 0;
  const auto result =
      setup.run({.on_progress = [&](const TrainProgress&) { ++calls; }, .stop = {}});
  REQUIRE(result.has_value());
  CHECK(result->update.modules.empty());
  CHECK(result->num_examples == 30);
  CHECK(result->num_steps == 0);
  CHECK(result->num_passes == 5);  // of 7 examples
  CHECK(calls == 5);
  CHECK(result->train_loss > 0.0);
  const auto& dense = result->update.dense;
  CHECK(dense.at("classifier.weight").abs().max().item<float>() == 0.0F);
  const double log_likelihood = dense.at("statistics/log_likelihood").item<double>();
  CHECK(log_likelihood == doctest::Approx(-result->train_loss).epsilon(1e-5));
  CHECK(at::equal(setup.model.linears()[0]->weight, weight));
  CHECK(setup.model.linears()[0]->adapter == nullptr);
}

TEST_CASE("observe: another device sees what the CPU sees") {
  Setup cpu;
  Setup other(test::pretend_device());
  const auto expected = cpu.run()->update.dense;
  const auto found = other.run()->update.dense;
  CHECK(found.size() == expected.size());
  for (const auto& [name, tensor] : found) {
    CAPTURE(name);
    CHECK(at::allclose(tensor, expected.at(name), 1e-4, 1e-6));
  }
}

TEST_CASE("observe: same input, same bits; stops when it is asked to") {
  Setup setup;
  const auto once = setup.run();
  const auto again = setup.run();
  for (const auto& [name, tensor] : once->update.dense) {
    CAPTURE(name);
    CHECK(at::equal(tensor, again->update.dense.at(name)));
  }
  std::stop_source source;
  source.request_stop();
  CHECK_FALSE(setup.run({.on_progress = {}, .stop = source.get_token()}).has_value());
}

}  // namespace
}  // namespace drystone::training
