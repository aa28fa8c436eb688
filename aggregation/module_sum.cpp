#include "aggregation/module_sum.h"

#include <algorithm>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_cholesky_ex.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mm.h>

#include "aggregation/compaction.h"
#include "core/check.h"

namespace drystone::aggregation {
namespace {

/// Of a column of length 1, the squared distance from the span of those before it, below which it
/// counts as dependent. The Gram matrix's own rounding is about 1e-13.
constexpr double kDependent = 1e-11;

/// Whether the columns of `matrix` are independent: by the Cholesky factor of their Gram matrix,
/// whose diagonal holds each column's distance from the span of those before it.
bool has_independent_columns(const at::Tensor& matrix) {
  if (matrix.size(1) > matrix.size(0)) return false;
  const at::Tensor norms = at::linalg_vector_norm(matrix, 2, {0});
  if (!(norms > 0).all().item<bool>()) return false;
  const at::Tensor unit = matrix / norms;
  const auto [factor, info] = at::linalg_cholesky_ex(at::mm(unit.t(), unit));
  if (info.item<int>() != 0) return false;
  const double least = factor.diagonal().min().item<double>();
  return least * least > kDependent;  // false for NaN: compact() names it
}

tensors::Factors to_double(const tensors::Factors& factors) {
  return {.b = factors.b.to(at::kDouble).contiguous(), .a = factors.a.to(at::kDouble).contiguous()};
}

tensors::Factors beside(const ModuleSum& sum, const tensors::Factors& update) {
  if (sum.is_empty()) return update;
  const tensors::Factors before = sum.in_factors(at::kDouble);
  return {.b = at::cat({before.b, update.b}, 1), .a = at::cat({before.a, update.a}, 0)};
}

tensors::Factors identity_times(const at::Tensor& product) {
  const int64_t side = std::min(product.size(0), product.size(1));
  const at::Tensor eye = at::eye(side, product.options());
  if (product.size(0) < product.size(1)) return {.b = eye, .a = product};
  return {.b = product, .a = eye};
}

ModuleSum multiplied_out(const ModuleSum& sum, const tensors::Factors& update) {
  at::Tensor product = at::mm(update.b, update.a);
  if (sum.product.defined()) {
    product += sum.product;
  } else if (!sum.is_empty()) {
    product += at::mm(sum.factors.b, sum.factors.a);
  }
  const bool is_tall = product.size(0) >= product.size(1);
  if (has_independent_columns(is_tall ? product : product.t())) return {.product = product};
  return {.factors = compact(identity_times(product), {}, at::kDouble).factors};
}

void require_fits(const ModuleSum& sum, const tensors::Factors& update) {
  core::require(sum.is_empty() || (sum.out_features() == update.out_features() &&
                                   sum.in_features() == update.in_features()),
                "sum: a module changes its shape");
}

}  // namespace

int64_t ModuleSum::rank() const {
  if (product.defined()) return std::min(product.size(0), product.size(1));
  return is_empty() ? 0 : factors.rank();
}

tensors::Factors ModuleSum::in_factors(at::ScalarType dtype) const {
  core::require(!is_empty(), "sum: no version was added");
  const at::NoGradGuard no_grad;
  const tensors::Factors own = product.defined() ? identity_times(product) : factors;
  const auto copy = [&](const at::Tensor& tensor) {
    return tensor.to(dtype, /*non_blocking=*/false, /*copy=*/true).contiguous();
  };
  return {.b = copy(own.b), .a = copy(own.a)};
}

ModuleSum add(const ModuleSum& sum, const tensors::Factors& update) {
  require_fits(sum, update);
  const at::NoGradGuard no_grad;
  const tensors::Factors term = to_double(update);
  const int64_t side = std::min(term.out_features(), term.in_features());
  if (sum.rank() + term.rank() >= side) return multiplied_out(sum, term);
  const tensors::Factors stack = beside(sum, term);
  if (has_independent_columns(stack.b) && has_independent_columns(stack.a.t())) {
    return {.factors = stack};
  }
  return {.factors = compact(stack, {}, at::kDouble).factors};
}

ModuleSum add_bounded(const ModuleSum& sum, const tensors::Factors& update, int64_t max_rank,
                      double& relative_tail) {
  require_fits(sum, update);
  const at::NoGradGuard no_grad;
  const Compacted cut = compact(beside(sum, to_double(update)),
                                {.kind = CompactionKind::Rank, .rank = max_rank}, at::kDouble);
  if (cut.has_tail()) relative_tail = std::max(relative_tail, cut.report.relative_error);
  return {.factors = cut.factors};
}

}  // namespace drystone::aggregation
