// BERT against transformers on the shared models: a random tiny one and the real all-MiniLM-L6-v2.
// Skipped, with a message, where the data are not there.

#include <cstdlib>
#include <filesystem>
#include <string>

#include <doctest/doctest.h>

#include "models/encoder/bert.h"
#include "models/load.h"
#include "tests/models/encoder_oracle.h"

using namespace drystone;
using test::distance;

namespace {

constexpr double kFloatTolerance = 1e-5;

const std::filesystem::path kSource = DRYSTONE_SOURCE_DIR;
const std::filesystem::path kSharedModels = kSource / "../shared/data/models";

bool present(const std::filesystem::path& file) {
  if (std::filesystem::exists(file)) return true;
  MESSAGE("skipped: no " << file.string());
  return false;
}

}  // namespace

TEST_CASE("Bert: the shared tiny model's logits, loss, hidden states and gradients") {
  const auto folder = kSharedModels / "tiny-random/bert-cls";
  if (!present(folder / "expected.safetensors")) return;
  const tensors::SafetensorsFile expected(folder / "expected.safetensors");
  const models::ModelSpec spec{.folder = folder, .num_labels = 3};
  const models::Base base = models::load_base(spec);
  models::Bert model(spec, base.config, base.weights);
  const models::Batch batch = test::batch_of(expected, "");

  const at::Tensor keep = batch.pad_mask.unsqueeze(-1);  // transformers computes on padding as well
  CHECK(distance(model.hidden_states(batch), expected.tensor("hidden_last") * keep) <
        kFloatTolerance);
  const models::Weights leaves = test::unfreeze(model);
  const at::Tensor logits = model.logits(batch);
  CHECK(distance(logits, expected.tensor("logits")) < kFloatTolerance);
  const at::Tensor loss = model.loss(logits, batch);
  CHECK(distance(loss, expected.tensor("loss").squeeze()) < kFloatTolerance);
  loss.backward();
  int compared = 0;
  for (const auto& [name, leaf] : leaves) {
    if (!expected.contains("grad." + name)) continue;
    CAPTURE(name);
    CHECK(distance(leaf.grad(), expected.tensor("grad." + name)) < kFloatTolerance);
    ++compared;
  }
  CHECK(compared == 6);
}

TEST_CASE("Roberta: the shared tiny model's logits, loss and gradients") {
  const auto folder = kSharedModels / "tiny-random/roberta-cls";
  if (!present(folder / "expected.safetensors")) return;
  const tensors::SafetensorsFile expected(folder / "expected.safetensors");
  const auto model = models::load_model({.folder = folder, .num_labels = 3});
  test::EncoderErrors errors;
  test::compare_gradients(*model, expected, "", errors);
  errors.batches = "right";
  test::check_errors("shared: roberta-cls", errors);
  CHECK(errors.num_gradients == 6);
}

TEST_CASE("Bert: all-MiniLM-L6-v2's hidden states and pooler output") {
  const auto answers = kSharedModels / "all-MiniLM-L6-v2/expected.safetensors";
  const auto folder = kSource / ".data/news/model";
  if (!present(answers) || !present(folder / "model.safetensors")) return;
  const tensors::SafetensorsFile expected(answers);
  const models::ModelSpec spec{.folder = folder};
  const models::Base base = models::load_base(spec);
  models::Bert model(spec, base.config, base.weights);
  const models::Batch batch = test::batch_of(expected, "");

  const at::Tensor hidden = model.hidden_states(batch);
  const at::Tensor keep = batch.pad_mask.unsqueeze(-1);
  CHECK(distance(hidden, expected.tensor("last_hidden_state") * keep) < kFloatTolerance);

  const at::Tensor pooled = expected.tensor("pooler_output");
  const auto head = model.dense();
  const at::Tensor logits =
      pooled.matmul(head.at("classifier.weight")->t()) + *head.at("classifier.bias");
  CHECK(distance(model.logits(batch), logits) < kFloatTolerance);

  const at::Tensor weights = batch.pad_mask.to(at::kFloat).unsqueeze(-1);
  const at::Tensor mean = (hidden * weights).sum(1) / weights.sum(1);
  const at::Tensor embedding = mean / mean.norm(2, 1, true);
  CHECK(distance(embedding, expected.tensor("sentence_embedding")) < kFloatTolerance);
}
