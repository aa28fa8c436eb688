#pragma once
// Class probabilities when the logits are Gaussian: what a linearised network predicts under a
// Laplace posterior (MacKay, 1992; Hobbhahn et al., 2022, arXiv:2003.01227).

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/seed.h"

namespace drystone::adapters {

/// Logits f ~ N(mean, covariance), one row an example; fp64 on CPU.
struct GaussianLogits {
  at::Tensor mean;        ///< [rows, classes]
  at::Tensor covariance;  ///< [rows, classes, classes], positive semi-definite
};

/// The mean of softmax(f) over draws; the softmax comes first. All rows use the same standard
/// normal draws. @param samples  ≥ 1   @return  log p [rows, classes]
at::Tensor monte_carlo(const GaussianLogits& logits, std::int64_t samples,
                       const core::StreamKey& key);

/// softmax of f_c / √(1 + π/8 · Var f_c): no draws, no covariances between classes.
at::Tensor probit(const GaussianLogits& logits);

/// The mean of the Dirichlet distribution whose image in the softmax basis has the mean and the
/// variances of f less its mean over the classes: α_c = (1 − 2/C + e^{f_c} Σ_j e^{−f_j} / C²) /
/// Var f_c. (The paper conditions on Σ f = 0, which moves probabilities where the logits'
/// variances differ.) For more than two classes it does not tend to softmax(mean) as the variances
/// vanish.
at::Tensor laplace_bridge(const GaussianLogits& logits);

}  // namespace drystone::adapters
