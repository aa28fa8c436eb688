#pragma once
// Compares an encoder with the cases that transformers computed (tests/oracles/encoder_cases.py).

#include <filesystem>
#include <string>

#include <doctest/doctest.h>

#include "tests/models/bert_oracle.h"

namespace drystone::test {

inline const std::filesystem::path kModelFixtures =
    std::filesystem::path(DRYSTONE_SOURCE_DIR) / "tests/models/fixtures";

/// float32 sums in another order.
constexpr double kEncoderTolerance = 1e-5;

/// Largest difference, as a part of the largest expected number (or of 1, if that is smaller).
inline double relative_distance(const at::Tensor& actual, const at::Tensor& expected) {
  const double size = expected.abs().max().item<double>();
  return distance(actual, expected) / std::max(size, 1e-3);
}

/// Logits and loss of the case NAME; PREFIX is "NAME." or "".
inline at::Tensor check_logits(models::Model& model, const tensors::SafetensorsFile& expected,
                               const std::string& prefix) {
  CAPTURE(prefix);
  const models::Batch batch = batch_of(expected, prefix);
  const at::Tensor logits = model.logits(batch);
  CHECK(relative_distance(logits, expected.tensor(prefix + "logits")) < kEncoderTolerance);
  const at::Tensor loss = model.loss(logits, batch);
  CHECK(relative_distance(loss, expected.tensor(prefix + "loss").squeeze()) < kEncoderTolerance);
  return loss;
}

/// The same, and every gradient that the file holds. @return  how many were compared
inline int check_gradients(models::Model& model, const tensors::SafetensorsFile& expected,
                           const std::string& prefix) {
  const models::Weights leaves = unfreeze(model);
  check_logits(model, expected, prefix).backward();
  int compared = 0;
  for (const auto& [name, leaf] : leaves) {
    const std::string key = prefix + "grad." + name;
    if (!expected.contains(key)) continue;
    CAPTURE(name);
    REQUIRE(leaf.grad().defined());
    CHECK(relative_distance(leaf.grad(), expected.tensor(key)) < kEncoderTolerance);
    ++compared;
  }
  return compared;
}

}  // namespace drystone::test
