#pragma once
// Laplace-LoRA (Yang et al., 2024, arXiv:2308.13111): a Gaussian posterior over trained LoRA
// factors from the curvature at their values. Nothing is trained: clients pass over their data once
// and send sums, which the coordinator adds; predictions linearise the model.

#include <cstdint>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>

#include "adapters/method.h"

namespace drystone::adapters {

/// Names of the statistics; all but the counts are means over examples:
///     MODULE.input            Σ x xᵀ            [in, in]
///     MODULE.hidden           Σ (Ax)(Ax)ᵀ       [rank, rank]
///     MODULE.hidden_gradient  Σ g gᵀ            [rank, rank]   g = ∂ log p / ∂(Ax)
///     MODULE.output_gradient  Σ g gᵀ            [out, out]     g = ∂ log p / ∂(BAx)
///     MODULE.tokens           tokens            [1]
///     head.input              Σ [h; 1][h; 1]ᵀ   [features + 1, features + 1]
///     head.output_gradient    Σ g gᵀ            [classes, classes]
///     log_likelihood          Σ log p           [1]
/// The sums run over tokens without padding; those of gradients also over the labels that the model
/// itself expects. Of a dimension d above `dense_up_to` the sum is sent as G · Ω [d, columns] with
/// a Ω that everybody draws alike (adapters/posterior/kronecker.h): it adds up like the rest.
Method laplace_lora_method();

/// How a matrix of dimension d travels.
struct SketchPlan {
  std::int64_t dense_up_to = 1024;
  std::int64_t rank = 32;
  std::uint64_t seed = 0;

  bool is_dense(std::int64_t dimension) const;
  std::int64_t columns(std::int64_t dimension) const;
  /// Ω of a statistic.
  at::Tensor omega(const std::string& statistic, std::int64_t dimension) const;
};
/// @param spec  complete
SketchPlan sketch_plan(const AdapterSpec& spec, std::uint64_t seed);

}  // namespace drystone::adapters
