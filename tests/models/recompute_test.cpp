#include "models/recompute.h"

#include <filesystem>
#include <map>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <doctest/doctest.h>

#include "models/load.h"

using namespace drystone;

namespace {

/// Gradients of every linear's weight, its dropout on.
std::map<std::string, at::Tensor> gradients(const std::filesystem::path& folder, models::Task task,
                                            bool checkpointing) {
  const auto model = models::load_model({.folder = folder, .task = task, .num_labels = 2});
  model->set_checkpointing(checkpointing);
  model->set_training(true, /*seed=*/11);
  for (models::Linear* linear : model->linears()) {
    linear->weight = linear->weight.clone().set_requires_grad(true);
  }
  models::Batch batch{.input_ids = at::arange(3, 19, at::kLong).remainder(16).view({2, 8})};
  batch.labels = task == models::Task::CausalLm ? batch.input_ids : at::arange(2, at::kLong);
  model->batch_loss(batch).backward();
  std::map<std::string, at::Tensor> found;
  for (models::Linear* linear : model->linears()) {
    if (linear->weight.grad().defined()) found[linear->name] = linear->weight.grad();
  }
  return found;
}

void check_same(const std::filesystem::path& fixture, models::Task task) {
  const std::filesystem::path folder =
      std::filesystem::path(DRYSTONE_SOURCE_DIR) / "tests/models/fixtures" / fixture;
  const auto kept = gradients(folder, task, false);
  const auto again = gradients(folder, task, true);
  REQUIRE(kept.size() == again.size());
  REQUIRE(kept.size() > 2);
  for (const auto& [name, gradient] : kept) {
    CAPTURE(name);
    CHECK(at::equal(gradient, again.at(name)));
  }
}

}  // namespace

TEST_CASE("checkpointing: the same gradients, bit for bit, dropout included") {
  check_same("bert_tiny", models::Task::Classification);
  check_same("deberta_v3", models::Task::Classification);
}

TEST_CASE("checkpointing: decoders") {
  const std::filesystem::path decoders =
      std::filesystem::path(DRYSTONE_SOURCE_DIR) / "tests/models/fixtures/decoders";
  for (const auto& entry : std::filesystem::directory_iterator(decoders)) {
    if (!std::filesystem::exists(entry.path() / "config.json")) continue;
    CAPTURE(entry.path().string());
    check_same(entry.path(), models::Task::CausalLm);
  }
}
