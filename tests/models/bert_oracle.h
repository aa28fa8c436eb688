#pragma once
// Helpers of the tests that compare a BERT with what transformers computed.

#include <filesystem>
#include <string>

#include <ATen/core/Tensor.h>

#include "models/encoder/bert.h"
#include "models/load.h"
#include "tensors/safetensors.h"

namespace drystone::test {

inline const std::filesystem::path kTinyBert =
    std::filesystem::path(DRYSTONE_SOURCE_DIR) / "tests/models/fixtures/bert_tiny";

/// Largest absolute difference.
inline double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

/// The batch NAME of an expected.safetensors; PREFIX is "NAME." or "".
inline models::Batch batch_of(const tensors::SafetensorsFile& expected, const std::string& prefix) {
  const at::Tensor mask = expected.tensor(prefix + "attention_mask").to(at::kBool);
  models::Batch batch{.input_ids = expected.tensor(prefix + "input_ids"),
                      .pad_mask = mask.all().item<bool>() ? at::Tensor() : mask,
                      .labels = expected.contains(prefix + "labels")
                                    ? expected.tensor(prefix + "labels")
                                    : at::Tensor()};
  if (expected.contains(prefix + "token_type_ids")) {
    batch.type_ids = expected.tensor(prefix + "token_type_ids");
  }
  return batch;
}

/// Makes every linear weight and the head's tensors leaves of their own; returns them by tensor
/// name.
inline models::Weights unfreeze(models::Model& model) {
  models::Weights leaves;
  const auto leaf = [&](const std::string& name, at::Tensor& tensor) {
    tensor = tensor.detach().clone().requires_grad_(true);
    leaves.emplace(name, tensor);
  };
  for (models::Linear* const linear : model.linears())
    leaf(linear->name + ".weight", linear->weight);
  for (const auto& [name, tensor] : model.dense()) leaf(name, *tensor);
  return leaves;
}

}  // namespace drystone::test
