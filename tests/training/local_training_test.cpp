#include "training/local_training.h"

#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "adapters/registry.h"
#include "core/error.h"
#include "tensors/factor_set_io.h"
#include "tests/adapters/toy_model.h"
#include "toy_examples.h"
#include "training/trainer.h"

namespace drystone::training {
namespace {

core::TrainingConfig toy_training(std::string_view method, std::int64_t rank) {
  core::TrainingConfig training;
  training.method = method;
  training.rank = rank;
  training.dropout = 0.2;
  training.batch_size = 4;
  training.gradient_accumulation = 2;
  training.epochs = 2;
  training.learning_rate = 1e-2;
  return training;
}

core::Bytes bytes_of(const LocalResult& result) { return tensors::to_bytes(result.update); }

/// A client with a state and examples of its own.
struct Client {
  std::string name;
  core::TrainingConfig training;
  GlobalStatePtr state;
  Examples examples = test::toy_examples(1, 30);
  EarlyStoppingSettings early_stopping = {};

  RoundTask task() const {
    return {.seed = 7,
            .round = 1,
            .client = name,
            .training = adapters::resolve(training),
            .state = state,
            .early_stopping = early_stopping};
  }
  LocalTraining begin(models::Model& model) const {
    return LocalTraining(task(), {.model = model, .examples = examples});
  }
  core::Bytes train(models::Model& model) const {
    return bytes_of(train_locally(task(), {.model = model, .examples = examples}).value());
  }
};

GlobalStatePtr state_with_head(models::Model& model, std::uint64_t seed) {
  const at::Tensor head = test::keyed_normal(seed, {3, 10}, 0.2);
  const tensors::Factors learnt{.b = test::keyed_normal(seed + 1, {10, 2}, 0.1),
                                .a = test::keyed_normal(seed + 2, {2, 16}, 0.1)};
  return GlobalState::pristine(model)
      ->apply(0, core::PublishMode::Add, {.dense = {{"classifier.weight", head}}})
      ->apply(1, core::PublishMode::Add, {.modules = {{"encoder.layer.1.output.dense", learnt}}});
}

std::vector<core::Bytes> one_after_the_other(models::Model& model,
                                             const std::vector<Client>& clients) {
  std::vector<core::Bytes> updates;
  for (const Client& client : clients) {
    updates.push_back(client.train(model));
  }
  return updates;
}

std::vector<core::Bytes> in_turns(models::Model& model, const std::vector<Client>& clients) {
  std::vector<std::unique_ptr<LocalTraining>> trainings;
  for (const Client& client : clients) {
    trainings.push_back(std::make_unique<LocalTraining>(
        client.task(), TrainingSite{.model = model, .examples = client.examples}));
    trainings.back()->detach();
  }
  for (bool goes_on = true; goes_on;) {
    goes_on = false;
    for (const auto& training : trainings) {
      if (training->is_over()) continue;
      training->attach();
      training->step();
      training->detach();
      goes_on = true;
    }
  }
  std::vector<core::Bytes> updates;
  for (const auto& training : trainings) updates.push_back(bytes_of(training->finish()));
  return updates;
}

void check_plain(models::Model& model) {
  for (const models::Linear* linear : model.linears()) {
    CHECK(linear->adapter == nullptr);
    CHECK_FALSE(linear->rounds);
  }
  for (const auto& [name, tensor] : model.dense()) CHECK_FALSE(tensor->requires_grad());
}

TEST_CASE("local training: in turns on one model, whatever the method, as one after the other") {
  for (const adapters::Method& method : adapters::methods()) {
    if (!method.trains) continue;
    CAPTURE(method.name);
    test::ToyModel model;
    const GlobalStatePtr state = state_with_head(model, 5);
    std::vector<Client> clients = {
        {.name = "a", .training = toy_training(method.name, 4), .state = state},
        {.name = "b", .training = toy_training("lora", 2), .state = state}};
    clients[1].training.epochs = 3;
    clients[1].examples = test::toy_examples(2, 17);
    CHECK(in_turns(model, clients) == one_after_the_other(model, clients));
    check_plain(model);
  }
}

TEST_CASE("local training: turns of other states, precisions and ends do not mix either") {
  test::ToyModel model;
  const GlobalStatePtr one = state_with_head(model, 5);
  const GlobalStatePtr other = state_with_head(model, 50);
  std::vector<Client> clients = {
      {.name = "a", .training = toy_training("lora", 4), .state = one},
      {.name = "b", .training = toy_training("pissa", 3), .state = other},
      {.name = "c", .training = toy_training("lora-pro", 2), .state = one},
      {.name = "d", .training = toy_training("rslora", 5), .state = other}};
  clients[1].training.precision = "bfloat16";
  clients[2].training.target_modules = {"query"};
  clients[3].early_stopping = {.share = 0.2, .every = 2, .patience = 1};
  clients[3].training.learning_rate = 0.3;
  CHECK(in_turns(model, clients) == one_after_the_other(model, clients));
  check_plain(model);
}

TEST_CASE("local training: a step needs its turn, and a turn a plain model") {
  test::ToyModel model;
  const Client client{
      .name = "a", .training = toy_training("lora", 4), .state = state_with_head(model, 5)};
  LocalTraining training = client.begin(model);
  CHECK_THROWS_AS(client.begin(model), core::InvalidArgument);
  CHECK(training.step().step == 1);
  training.detach();
  CHECK_THROWS_AS(training.step(), core::InvalidArgument);
  {
    LocalTraining second = client.begin(model);
    CHECK_THROWS_AS(training.attach(), core::InvalidArgument);
    CHECK(second.step().step == 1);
  }
  training.attach();
  CHECK(training.step().step == 2);
}

TEST_CASE("local training: one that fails leaves the model to the others") {
  test::ToyModel model;
  const GlobalStatePtr state = state_with_head(model, 5);
  const Client good{.name = "a", .training = toy_training("lora", 4), .state = state};
  Client bad{.name = "b", .training = toy_training("lora", 2), .state = state};
  bad.training.learning_rate = 1e30;
  LocalTraining training = good.begin(model);
  training.step();
  training.detach();
  CHECK_THROWS_AS(bad.train(model), TrainingFailed);
  Client impossible = bad;
  impossible.training.target_modules = {"nothing"};
  CHECK_THROWS_AS(impossible.train(model), core::ConfigError);
  check_plain(model);
  training.attach();
  while (!training.is_over()) training.step();
  const core::Bytes update = bytes_of(training.finish());
  training.detach();
  CHECK(update == good.train(model));
}

}  // namespace
}  // namespace drystone::training
