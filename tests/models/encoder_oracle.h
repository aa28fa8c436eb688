#pragma once
// Compares an encoder with the cases that transformers computed (tests/oracles/encoder_cases.py).

#include <algorithm>
#include <cstdio>
#include <cstdlib>
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

/// The largest relative errors of a model's cases.
struct EncoderErrors {
  std::string batches;
  double logits = 0.0;
  double loss = 0.0;
  double gradients = 0.0;
  int num_gradients = 0;
};

/// Logits and loss of the case NAME; PREFIX is "NAME." or "". @return  the loss
inline at::Tensor compare_logits(models::Model& model, const tensors::SafetensorsFile& expected,
                                 const std::string& prefix, EncoderErrors& errors) {
  const models::Batch batch = batch_of(expected, prefix);
  const at::Tensor logits = model.logits(batch);
  const at::Tensor loss = model.loss(logits, batch);
  errors.batches += (errors.batches.empty() ? "" : ", ") + prefix.substr(0, prefix.find('.'));
  errors.logits =
      std::max(errors.logits, relative_distance(logits, expected.tensor(prefix + "logits")));
  errors.loss =
      std::max(errors.loss, relative_distance(loss, expected.tensor(prefix + "loss").squeeze()));
  return loss;
}

/// The same, and every gradient that the file holds.
inline void compare_gradients(models::Model& model, const tensors::SafetensorsFile& expected,
                              const std::string& prefix, EncoderErrors& errors) {
  const models::Weights leaves = unfreeze(model);
  compare_logits(model, expected, prefix, errors).backward();
  for (const auto& [name, leaf] : leaves) {
    const std::string key = prefix + "grad." + name;
    if (!expected.contains(key)) continue;
    CAPTURE(name);
    REQUIRE(leaf.grad().defined());
    errors.gradients =
        std::max(errors.gradients, relative_distance(leaf.grad(), expected.tensor(key)));
    ++errors.num_gradients;
  }
}

/// Checks them against the tolerance; DRYSTONE_PRINT_TABLE=1 prints the row of docs/models.md.
inline void check_errors(const std::string& name, const EncoderErrors& errors) {
  if (std::getenv("DRYSTONE_PRINT_TABLE") != nullptr) {  // NOLINT(concurrency-mt-unsafe)
    std::printf("| %s | %s | %.1e | %.1e | %.1e (%d) |\n", name.c_str(), errors.batches.c_str(),
                errors.logits, errors.loss, errors.gradients, errors.num_gradients);
  }
  CAPTURE(name);
  CHECK(errors.logits < kEncoderTolerance);
  CHECK(errors.loss < kEncoderTolerance);
  CHECK(errors.gradients < kEncoderTolerance);
}

}  // namespace drystone::test
