// BERT against transformers on a committed model with random weights (tests/oracles/bert_tiny.py).

#include "models/encoder/bert.h"

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <doctest/doctest.h>
#include <torch/csrc/autograd/function.h>

#include "core/error.h"
#include "models/load.h"
#include "tests/keyed_generator.h"
#include "tests/models/bert_oracle.h"

using namespace drystone;
using models::Batch;
using models::ModelSpec;
using test::distance;

namespace {

constexpr double kFloatTolerance = 1e-5;

const tensors::SafetensorsFile& expected() {
  static const tensors::SafetensorsFile file(test::kTinyBert / "expected.safetensors");
  return file;
}

ModelSpec classification_spec() {
  return {.folder = test::kTinyBert, .task = models::Task::Classification, .num_labels = 3};
}

/// The regression model of the oracle: its head is among the expected tensors.
std::unique_ptr<models::Model> regression_model() {
  auto model = models::load_model(
      {.folder = test::kTinyBert, .task = models::Task::Regression, .num_labels = 1});
  for (const auto& [name, tensor] : model->dense()) {
    *tensor = expected().tensor("regression." + name);
  }
  return model;
}

void check_against_oracle(models::Model& model, const std::string& name) {
  CAPTURE(name);
  const Batch batch = test::batch_of(expected(), name + ".");
  const at::Tensor logits = model.logits(batch);
  CHECK(distance(logits, expected().tensor(name + ".logits")) < kFloatTolerance);
  CHECK(distance(model.loss(logits, batch), expected().tensor(name + ".loss").squeeze()) <
        kFloatTolerance);
}

void check_gradients(models::Model& model, const std::string& name) {
  const models::Weights leaves = test::unfreeze(model);
  const Batch batch = test::batch_of(expected(), name + ".");
  model.loss(model.logits(batch), batch).backward();
  std::size_t compared = 0;
  for (const auto& [tensor_name, leaf] : leaves) {
    CAPTURE(tensor_name);
    REQUIRE(leaf.grad().defined());
    CHECK(distance(leaf.grad(), expected().tensor(name + ".grad." + tensor_name)) <
          kFloatTolerance);
    ++compared;
  }
  CHECK(compared == 6 * 2 + 1 + 2);
}

Batch random_batch(std::int64_t rows, std::int64_t tokens) {
  return {.input_ids = at::randint(1, 20, {rows, tokens}, test::generator(), at::kLong),
          .pad_mask = {},
          .labels = {}};
}

/// Adds nothing, but stands in the slot.
struct PlainAdapter final : models::LinearAdapter {
  at::Tensor leaf = at::zeros({1}).requires_grad_(true);
  at::Tensor forward(const models::Linear& base, const models::LayerInput& x) override {
    return base.plain(x.value) + leaf;
  }
};

/// Whether a record leads from `tensor` to more than `limit` nodes.
std::size_t graph_size(const at::Tensor& tensor) {
  std::set<const torch::autograd::Node*> seen;
  std::vector<const torch::autograd::Node*> open = {tensor.grad_fn().get()};
  while (!open.empty()) {
    const auto* const node = open.back();
    open.pop_back();
    if (node == nullptr || !seen.insert(node).second) continue;
    for (const auto& edge : node->next_edges()) open.push_back(edge.function.get());
  }
  return seen.size();
}

}  // namespace

TEST_CASE("Bert: logits and loss are transformers', whatever the shape and padding") {
  const auto model = models::load_model(classification_spec());
  for (const char* const name : {"classification", "one_row", "one_token", "full_length", "pair"}) {
    check_against_oracle(*model, name);
  }
  check_against_oracle(*regression_model(), "regression");
}

TEST_CASE("Bert: gradients of every linear weight and of the head are transformers'") {
  check_gradients(*models::load_model(classification_spec()), "classification");
  check_gradients(*regression_model(), "regression");
}

TEST_CASE("Bert: the other activations are transformers'") {
  const ModelSpec spec = classification_spec();
  const models::Base base = models::load_base(spec);
  for (const std::string name : {"gelu_new", "relu"}) {
    models::Base other = base;
    other.config = models::HfConfig::parse(
        R"({"model_type": "bert", "vocab_size": 20, "hidden_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 10,
            "hidden_act": ")" +
            name + "\"}",
        "config.json");
    check_against_oracle(*models::build(spec, other), name);
  }
}

TEST_CASE("Bert: the last layer for first tokens alone is the full computation (float64)") {
  ModelSpec spec = classification_spec();
  spec.dtype = at::kDouble;
  const models::Base base = models::load_base(spec);
  models::Bert lean(spec, base.config, base.weights);
  models::Bert full(spec, base.config, base.weights);
  const auto lean_leaves = test::unfreeze(lean);
  const auto full_leaves = test::unfreeze(full);
  for (const char* const name : {"classification", "one_token", "full_length"}) {
    CAPTURE(name);
    const Batch batch = test::batch_of(expected(), std::string(name) + ".");
    const at::Tensor lean_logits = lean.logits(batch);
    const at::Tensor full_logits = full.head(full.hidden_states(batch).select(1, 0));
    CHECK(distance(lean_logits, full_logits) < 1e-10);
    lean.loss(lean_logits, batch).backward();
    full.loss(full_logits, batch).backward();
    for (const auto& [tensor_name, leaf] : lean_leaves) {
      CAPTURE(tensor_name);
      CHECK(distance(leaf.grad(), full_leaves.at(tensor_name).grad()) < 1e-10);
    }
  }
}

TEST_CASE("Bert: float32 agrees with float64, where attention takes another path") {
  ModelSpec spec = classification_spec();
  const auto single = models::load_model(spec);
  spec.dtype = at::kDouble;
  const auto precise = models::load_model(spec);
  const Batch batch = test::batch_of(expected(), "classification.");
  CHECK(distance(single->logits(batch), precise->logits(batch)) < kFloatTolerance);
}

TEST_CASE("Bert: bfloat16 computes, coarsely") {
  ModelSpec spec = classification_spec();
  spec.dtype = at::kBFloat16;
  const auto model = models::load_model(spec);
  const Batch batch = test::batch_of(expected(), "classification.");
  const at::Tensor logits = model->logits(batch);
  CHECK((logits.scalar_type() == at::kBFloat16));
  CHECK(distance(logits, expected().tensor("classification.logits")) < 0.1);
  CHECK((model->loss(logits, batch).scalar_type() == at::kFloat));
}

TEST_CASE("Bert: padding changes nothing but rounding") {
  const auto model = models::load_model(classification_spec());
  const Batch batch = random_batch(2, 6);
  const at::Tensor wide = at::cat({batch.input_ids, at::zeros({2, 3}, at::kLong)}, 1);
  const at::Tensor mask = at::arange(9).unsqueeze(0).lt(6).expand({2, 9});
  CHECK(distance(model->logits(batch), model->logits({wide, mask, {}})) < 1e-6);
}

TEST_CASE("Bert: names are PEFT's, in forward order") {
  const auto model = models::load_model(classification_spec());
  std::vector<std::string> names;
  for (const models::Linear* const linear : model->linears()) names.push_back(linear->name);
  REQUIRE(names.size() == 13);
  CHECK(names[0] == "bert.encoder.layer.0.attention.self.query");
  CHECK(names[3] == "bert.encoder.layer.0.attention.output.dense");
  CHECK(names[4] == "bert.encoder.layer.0.intermediate.dense");
  CHECK(names[11] == "bert.encoder.layer.1.output.dense");
  CHECK(names[12] == "bert.pooler.dense");
  CHECK(model->dense().contains("classifier.weight"));
  CHECK(model->dense().contains("classifier.bias"));
}

TEST_CASE("Bert: instances share the checkpoint's tensors") {
  const ModelSpec spec = classification_spec();
  const models::Base base = models::load_base(spec);
  const auto one = models::build(spec, base);
  const auto two = models::build(spec, base);
  for (std::size_t i = 0; i < one->linears().size(); ++i) {
    CHECK(one->linears()[i]->weight.is_same(two->linears()[i]->weight));
  }
  CHECK(one->dense().at("classifier.weight")->is_same(*two->dense().at("classifier.weight")));
}

TEST_CASE("Bert: no record is made below the first adapted layer") {
  const auto model = models::load_model(classification_spec());
  const Batch batch = random_batch(3, 8);
  CHECK_FALSE(model->logits(batch).requires_grad());

  PlainAdapter adapter;
  const auto linears = model->linears();
  linears[6]->adapter = &adapter;  // layer 1's query
  const at::Tensor late = model->logits(batch);
  linears[6]->adapter = nullptr;
  linears[0]->adapter = &adapter;  // layer 0's query
  const at::Tensor early = model->logits(batch);
  CHECK(late.requires_grad());
  CHECK(graph_size(early) > graph_size(late) + 5);
}

TEST_CASE("Bert: training steps leave every frozen tensor as it was, bit for bit") {
  const ModelSpec spec = classification_spec();
  const models::Base base = models::load_base(spec);
  models::Weights before;
  for (const auto& [name, tensor] : base.weights) before.emplace(name, tensor.clone());

  const auto model = models::build(spec, base);
  PlainAdapter adapter;
  for (models::Linear* const linear : model->linears()) linear->adapter = &adapter;
  std::vector<at::Tensor> leaves = {adapter.leaf};
  for (const auto& [name, tensor] : model->dense()) {
    *tensor = tensor->detach().clone().requires_grad_(true);
    leaves.push_back(*tensor);
  }
  const Batch batch = test::batch_of(expected(), "classification.");
  model->set_training(true, 5);
  const double first_loss = model->loss(model->logits(batch), batch).item<double>();
  for (int step = 0; step < 20; ++step) {
    model->loss(model->logits(batch), batch).backward();
    const at::NoGradGuard no_grad;
    for (at::Tensor& leaf : leaves) {
      leaf.sub_(leaf.grad() * 0.1);
      leaf.mutable_grad().reset();
    }
  }
  model->set_training(false, 0);
  CHECK(model->loss(model->logits(batch), batch).item<double>() < first_loss);
  for (const auto& [name, tensor] : base.weights) {
    CAPTURE(name);
    CHECK(at::equal(tensor, before.at(name)));
  }
}

TEST_CASE("Bert: dropout works while training only, and its seed decides it") {
  const auto model = models::load_model(classification_spec());
  const Batch batch = random_batch(4, 9);
  const at::Tensor plain = model->logits(batch);
  model->set_training(true, 11);
  const at::Tensor first = model->logits(batch);
  const at::Tensor second = model->logits(batch);
  CHECK(distance(first, plain) > 1e-3);
  CHECK(distance(first, second) > 1e-3);  // every step has masks of its own
  model->set_training(true, 11);
  CHECK(at::equal(model->logits(batch), first));
  CHECK(at::equal(model->logits(batch), second));
  model->set_training(true, 12);
  CHECK(distance(model->logits(batch), first) > 1e-3);
  model->set_training(false, 11);
  CHECK(at::equal(model->logits(batch), plain));
}

TEST_CASE("Bert: dropout leaves the expectation of the logits' first order alone") {
  const auto model = models::load_model(classification_spec());
  const Batch batch = random_batch(1, 9);
  const at::Tensor plain = model->logits(batch);
  model->set_training(true, 3);
  at::Tensor sum = at::zeros_like(plain);
  constexpr int kDraws = 400;
  for (int draw = 0; draw < kDraws; ++draw) sum.add_(model->logits(batch));
  // Not equal: the model is not linear. A missing 1 / (1 - p) would be off by far more.
  CHECK(distance(sum / kDraws, plain) < 0.35);
}

TEST_CASE("Bert: padding on the left changes nothing: positions count from the first token") {
  const auto model = models::load_model(classification_spec());
  const Batch batch = random_batch(2, 4);
  const at::Tensor wide = at::cat({at::zeros({2, 3}, at::kLong), batch.input_ids}, 1);
  const at::Tensor mask = at::arange(7).unsqueeze(0).ge(3).expand({2, 7});
  CHECK(distance(model->logits(batch), model->logits({wide, mask, {}})) < 1e-6);
}

TEST_CASE("Bert: a batch that is too long, empty or padded in the middle is refused") {
  const auto model = models::load_model(classification_spec());
  CHECK_THROWS_AS(model->logits(random_batch(1, 11)), core::InvalidArgument);
  CHECK_THROWS_AS(model->logits({at::zeros({0, 4}, at::kLong), {}, {}}), core::InvalidArgument);
  Batch batch = random_batch(2, 4);
  batch.pad_mask = at::arange(4).unsqueeze(0).ne(1).expand({2, 4});
  CHECK_THROWS_AS(model->logits(batch), core::InvalidArgument);
  batch.pad_mask = at::zeros({2, 4}, at::kBool);
  CHECK_THROWS_AS(model->logits(batch), core::InvalidArgument);
}
