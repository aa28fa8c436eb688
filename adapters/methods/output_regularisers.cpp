#include "adapters/methods/output_regularisers.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "adapters/methods/spectral.h"

namespace drystone::adapters {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::int64_t kWide = 4096;  // columns above which the range finder is used
constexpr std::int64_t kRangeSurplus = 5;
constexpr std::int64_t kRangeIterations = 2;

Triplets top_triplets(const at::Tensor& z, std::int64_t k, const core::StreamKey& key) {
  const std::int64_t smaller = std::min(z.size(0), z.size(1));
  const bool finds_range = z.size(1) > kWide && k + kRangeSurplus < smaller;
  return finds_range ? randomised_triplets(z, k, kRangeIterations, key)
                     : leading_triplets(z, k, key);
}

struct TopSingularSum : public torch::autograd::Function<TopSingularSum> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& z, std::int64_t k,
                            const core::StreamKey& key) {
    const Triplets top = top_triplets(z, k, key);
    context->save_for_backward({at::mm(top.u, top.v.t()).to(z.scalar_type())});
    return top.sigma.sum().to(z.scalar_type());
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    return {context->get_saved_variables()[0] * gradients[0], at::Tensor(), at::Tensor()};
  }
};

at::Tensor zero(const at::Tensor& like) { return at::zeros({}, like.options()); }

/// The usual log-probabilities, in fp32 at least.
at::Tensor log_probabilities(const at::Tensor& logits) {
  const bool is_double = logits.scalar_type() == at::kDouble;
  return at::log_softmax(logits, /*dim=*/-1, is_double ? at::kDouble : at::kFloat);
}

}  // namespace

at::Tensor distillation(const at::Tensor& logits, const at::Tensor& teacher, double temperature) {
  const at::Tensor student_log = log_probabilities(logits / temperature);
  const at::Tensor teacher_log = log_probabilities(teacher / temperature);
  const at::Tensor divergence = (teacher_log.exp() * (teacher_log - student_log)).sum(-1);
  return divergence.mean() * (temperature * temperature);
}

at::Tensor normalised_distance(const at::Tensor& logits, const at::Tensor& teacher) {
  const auto unit = [](const at::Tensor& z) {
    return z / at::linalg_vector_norm(z, 2, {-1}, /*keepdim=*/true).clamp_min(1e-12);
  };
  return (unit(logits) - unit(teacher)).square().mean();
}

at::Tensor decorrelation(const at::Tensor& logits) {
  const std::int64_t rows = logits.size(0);
  if (rows < 2) return zero(logits);
  const at::Tensor centred = logits - logits.mean(0, /*keepdim=*/true);
  const at::Tensor covariance = at::mm(centred.t(), centred) / static_cast<double>(rows - 1);
  const at::Tensor off_diagonal = covariance.square().sum() - covariance.diagonal().square().sum();
  return off_diagonal / static_cast<double>(logits.size(1));
}

at::Tensor negative_entropy(const at::Tensor& logits, std::int64_t top) {
  const bool cuts = top > 0 && top < logits.size(-1);
  const at::Tensor kept = cuts ? std::get<0>(logits.topk(top, /*dim=*/-1)) : logits;
  const at::Tensor log = log_probabilities(kept);
  return (log.exp() * log).sum(-1).mean();
}

at::Tensor top_singular_sum(const at::Tensor& z, std::int64_t k, const core::StreamKey& key) {
  return TopSingularSum::apply(z, std::min({k, z.size(0), z.size(1)}), key);
}

at::Tensor negative_spectral_share(const at::Tensor& z, std::int64_t k, SpectralNorm norm,
                                   const core::StreamKey& key) {
  const std::int64_t smaller = std::min(z.size(0), z.size(1));
  if (z.size(0) < 2) return zero(z);
  const bool is_nuclear = norm == SpectralNorm::Nuclear;
  if (is_nuclear && k >= smaller) return at::full({}, -1.0, z.options());
  const at::Tensor whole =
      is_nuclear ? top_singular_sum(z, smaller, key) : at::linalg_vector_norm(z);
  if (whole.item<double>() <= 1e-8) return zero(z);
  return -(top_singular_sum(z, k, key) / whole);
}

}  // namespace drystone::adapters
