#pragma once
// Compares a decoder with what transformers computed (tests/oracles/decoder_cases.py).

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include "models/decoder/decoder.h"
#include "models/decoder/generation.h"
#include "models/load.h"
#include "models/loss.h"
#include "tensors/safetensors.h"

namespace drystone::test {

/// max |actual − expected| / max |expected|.
inline double relative_error(const at::Tensor& actual, const at::Tensor& expected) {
  if (actual.sizes() != expected.sizes()) return 1e9;
  const double scale = expected.abs().max().item<double>();
  const double error =
      (actual.detach().to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>();
  return error / std::max(scale, 1e-30);
}

/// Worst relative errors of one case.
struct DecoderErrors {
  double logits = 0.0;
  double loss = 0.0;
  double gradients = 0.0;
  std::size_t num_gradients = 0;
  std::set<std::string> batches;

  double worst() const { return std::max({logits, loss, gradients}); }
};

/// The case's batch NAME. Labels only where wanted.
inline models::Batch decoder_batch(const tensors::SafetensorsFile& expected,
                                   const std::string& name, bool with_labels) {
  const at::Tensor mask = expected.tensor(name + ".attention_mask").to(at::kBool);
  models::Batch batch{.input_ids = expected.tensor(name + ".input_ids")};
  if (!mask.all().item<bool>()) batch.pad_mask = mask;
  if (with_labels) batch.labels = expected.tensor(name + ".labels");
  if (expected.contains(name + ".segments")) batch.segments = expected.tensor(name + ".segments");
  return batch;
}

/// Makes every linear weight (and the head) a leaf; returns them by tensor name.
inline models::Weights decoder_leaves(models::Model& model) {
  models::Weights leaves;
  for (models::Linear* const linear : model.linears()) {
    linear->weight = linear->weight.detach().clone().requires_grad_(true);
    leaves.emplace(linear->name + ".weight", linear->weight);
  }
  for (const auto& [name, tensor] : model.dense()) {
    *tensor = tensor->detach().clone().requires_grad_(true);
    leaves.emplace(name, *tensor);
  }
  return leaves;
}

inline void compare_gradients(models::Weights& leaves, const tensors::SafetensorsFile& expected,
                              const std::string& prefix, DecoderErrors& errors) {
  for (auto& [name, leaf] : leaves) {
    if (expected.contains(prefix + name) && leaf.grad().defined()) {
      const at::Tensor wanted = expected.tensor(prefix + name);
      const bool is_conv1d = name.find(".c_") != std::string::npos;  // GPT-2 stores [in, out]
      const at::Tensor grad = is_conv1d ? leaf.grad().t() : leaf.grad();
      errors.gradients = std::max(errors.gradients, relative_error(grad, wanted));
      ++errors.num_gradients;
    }
    leaf.mutable_grad().reset();
  }
}

/// A language model: all batches of the case, with labels and without.
inline DecoderErrors compare_language_model(models::Model& model,
                                            const tensors::SafetensorsFile& expected) {
  DecoderErrors errors;
  models::Weights leaves = decoder_leaves(model);
  for (const char* const name : {"plain", "right", "left", "packed", "long"}) {
    const std::string prefix = std::string(name) + ".";
    if (!expected.contains(prefix + "input_ids")) continue;
    errors.batches.insert(name);
    const at::Tensor wanted = expected.tensor(prefix + "logits");
    const models::Batch open = decoder_batch(expected, name, false);
    errors.logits = std::max(errors.logits, relative_error(model.logits(open), wanted));
    const models::Batch batch = decoder_batch(expected, name, true);
    const at::Tensor logits = model.logits(batch);
    const at::Tensor places = models::find_targets(batch).positions;
    errors.logits = std::max(errors.logits,
                             relative_error(logits, wanted.flatten(0, 1).index_select(0, places)));
    const at::Tensor loss = model.loss(logits, batch);
    errors.loss =
        std::max(errors.loss, relative_error(loss.reshape(1), expected.tensor(prefix + "loss")));
    loss.backward();
    compare_gradients(leaves, expected, prefix + "grad.", errors);
  }
  return errors;
}

/// A classifier or regression: the batches that such a case has.
inline DecoderErrors compare_classifier(models::Model& model,
                                        const tensors::SafetensorsFile& expected) {
  DecoderErrors errors;
  models::Weights leaves = decoder_leaves(model);
  std::vector<at::Tensor> actual;  // few numbers a batch: relative to the largest of all
  std::vector<at::Tensor> wanted;
  for (const char* const name : {"plain", "right", "left", "long"}) {
    const std::string prefix = std::string(name) + ".";
    errors.batches.insert(name);
    const models::Batch batch = decoder_batch(expected, name, true);
    const at::Tensor logits = model.logits(batch);
    actual.push_back(logits);
    wanted.push_back(expected.tensor(prefix + "logits"));
    const at::Tensor loss = model.loss(logits, batch);
    errors.loss =
        std::max(errors.loss, relative_error(loss.reshape(1), expected.tensor(prefix + "loss")));
    loss.backward();
    compare_gradients(leaves, expected, prefix + "grad.", errors);
  }
  errors.logits = relative_error(at::cat(actual), at::cat(wanted));
  return errors;
}

/// Whether greedy continuations of all the case's prompts, run together, are transformers'.
inline bool continues_alike(models::Model& model, const tensors::SafetensorsFile& expected) {
  constexpr std::int64_t kStop = 2;
  std::vector<std::vector<std::int64_t>> prompts;
  std::vector<std::vector<std::int64_t>> wanted;
  const auto longs = [&](const std::string& name) {
    const at::Tensor ids = expected.tensor(name);
    return std::vector<std::int64_t>(ids.const_data_ptr<std::int64_t>(),
                                     ids.const_data_ptr<std::int64_t>() + ids.numel());
  };
  for (int n = 0; expected.contains("generate." + std::to_string(n) + ".prompt"); ++n) {
    prompts.push_back(longs("generate." + std::to_string(n) + ".prompt"));
    wanted.push_back(longs("generate." + std::to_string(n) + ".ids"));
  }
  const auto results =
      models::generate(model, prompts, {.max_new_tokens = 16, .stop_ids = {kStop}});
  bool is_equal = !prompts.empty();
  for (std::size_t n = 0; n < results.size(); ++n) {
    std::vector<std::int64_t> ids = results[n].ids;
    if (results[n].stopped) ids.push_back(kStop);
    is_equal = is_equal && ids == wanted[n];
  }
  return is_equal;
}

inline const std::filesystem::path kDecoderFixtures =
    std::filesystem::path(DRYSTONE_SOURCE_DIR) / "tests/models/fixtures/decoders";

}  // namespace drystone::test
