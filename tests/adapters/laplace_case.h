#pragma once
// What the tests of Laplace-LoRA share: trained factors, a pass over data, derivatives by autograd.

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>
#include <torch/csrc/autograd/autograd.h>

#include "adapters/posterior/laplace_lora.h"
#include "adapters/posterior/linearisation.h"
#include "adapters/registry.h"
#include "models/load.h"
#include "toy_model.h"

namespace drystone::adapters {

using FactorMap = std::map<std::string, tensors::Factors>;

inline AdapterSpec laplace_spec(core::Options options = {}) {
  return {.method = "laplace-lora", .rank = 3, .options = std::move(options)};
}

inline FactorMap trained_factors(models::Model& model, std::int64_t rank = 3) {
  FactorMap factors;
  std::uint64_t seed = 70;
  for (const models::Linear* linear : model.linears()) {
    factors[linear->name] = {.b = test::keyed_normal(seed++, {linear->out_features(), rank}, 0.3),
                             .a = test::keyed_normal(seed++, {rank, linear->in_features()}, 0.3)};
  }
  return factors;
}

inline std::vector<std::size_t> numbers(std::size_t first, std::int64_t count) {
  std::vector<std::size_t> all;
  for (std::int64_t i = 0; i < count; ++i) all.push_back(first + static_cast<std::size_t>(i));
  return all;
}

inline models::Batch rows_of(const models::Batch& batch, std::int64_t first, std::int64_t count) {
  models::Batch part;
  part.input_ids = batch.input_ids.narrow(0, first, count);
  part.pad_mask = batch.pad_mask.narrow(0, first, count);
  part.labels = batch.labels.narrow(0, first, count);
  return part;
}

/// The statistics of rows [first, first + count), `batch_size` at a time.
inline TensorMap observe(models::Model& model, const AdapterSpec& spec, const FactorMap& factors,
                         const models::Batch& data, std::int64_t first, std::int64_t count,
                         std::int64_t batch_size) {
  const auto adapter =
      make_adapter(model, spec, {.seed = 3, .round = 1, .client = "c", .factors = &factors});
  for (std::int64_t at = 0; at < count; at += batch_size) {
    const std::int64_t rows = std::min(batch_size, count - at);
    const models::Batch batch = rows_of(data, first + at, rows);
    const auto examples = numbers(static_cast<std::size_t>(first + at), rows);
    adapter->observe({.batch = batch, .examples = examples});
  }
  CHECK(adapter->parameters().empty());
  CHECK(adapter->export_delta().empty());
  return adapter->statistics();
}

inline void check_close(const TensorMap& actual, const TensorMap& expected, double tolerance) {
  REQUIRE(actual.size() == expected.size());
  for (const auto& [name, tensor] : expected) {
    CAPTURE(name);
    const double size = tensor.norm().item<double>();
    CHECK((actual.at(name) - tensor).norm().item<double>() <= tolerance * size);
  }
}

inline ObservedLayer& layer_of(const models::Linear& linear) {
  return dynamic_cast<ObservedLayer&>(*linear.adapter);
}

/// A tiny encoder of the models' tests, with three classes and rows of unequal length.
struct TinyEncoder {
  std::unique_ptr<models::Model> model;
  models::Batch batch;

  explicit TinyEncoder(const std::string& fixture)
      : model(models::load_model({.folder = std::filesystem::path(DRYSTONE_SOURCE_DIR) /
                                            "tests/models/fixtures" / fixture,
                                  .task = models::Task::Classification,
                                  .num_labels = 3})) {
    batch.input_ids = at::zeros({4, 6}, at::kLong);
    batch.pad_mask = at::zeros({4, 6}, at::kBool);
    core::SplitMix64 random(1);
    for (std::int64_t row = 0; row < 4; ++row) {
      for (std::int64_t t = 0; t < 3 + row; ++t) {
        batch.input_ids[row][t].fill_(static_cast<std::int64_t>(random.below(20)));
        batch.pad_mask[row][t].fill_(true);
      }
    }
    batch.labels = at::tensor({0, 1, 2, 1}, at::kLong);
  }
};

/// JJᵀ of every row by ordinary autograd on the factors [rows, classes, classes].
inline at::Tensor autograd_gram(models::Model& model, const models::Batch& batch) {
  const at::Tensor logits = model.logits(batch);
  std::vector<at::Tensor> leaves;
  for (const models::Linear* linear : model.linears()) {
    leaves.push_back(layer_of(*linear).a());
    leaves.push_back(layer_of(*linear).b());
  }
  std::vector<at::Tensor> rows;
  for (std::int64_t row = 0; row < logits.size(0); ++row) {
    std::vector<at::Tensor> classes;
    for (std::int64_t c = 0; c < logits.size(1); ++c) {
      std::vector<at::Tensor> flat;
      for (const at::Tensor& g :
           torch::autograd::grad({logits[row][c]}, leaves, {}, /*retain_graph=*/true)) {
        flat.push_back(g.flatten());
      }
      classes.push_back(at::cat(flat));
    }
    const at::Tensor j = at::stack(classes).to(at::kDouble);
    rows.push_back(at::mm(j, j.t()));
  }
  return at::stack(rows);
}

inline Curvature curvature_of(const TensorMap& statistics, const AdapterSpec& spec,
                              double examples) {
  return {.statistics = statistics,
          .num_examples = examples,
          .plan = sketch_plan(completed(spec), /*seed=*/3)};
}

}  // namespace drystone::adapters
