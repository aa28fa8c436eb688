#include "aggregation/compaction.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/geqrf.h>
#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/ormqr.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include "core/check.h"
#include "core/error.h"

namespace drystone::aggregation {
namespace {

/// U · diag(σ) · Vᵀ of a product, where U and V may still have to be multiplied by the Householder
/// reflectors of a QR: the multiplication is done for the columns that are wanted only.
struct Decomposition {
  at::Tensor u;                         // [R or out, k]
  at::Tensor v;                         // [R or in, k]
  at::Tensor sigma;                     // [k], descending
  at::Tensor b_qr, b_tau, a_qr, a_tau;  // undefined on the dense path
};

at::Tensor upper_triangle(const at::Tensor& qr) { return qr.narrow(0, 0, qr.size(1)).triu(); }

/// Q · top, where Q is the orthogonal factor and `top` has as many rows as R has.
at::Tensor apply_reflectors(const at::Tensor& qr, const at::Tensor& tau, const at::Tensor& top) {
  if (!qr.defined()) return top;
  // Column-major, as LAPACK wants it.
  at::Tensor padded = at::zeros({top.size(1), qr.size(0)}, top.options()).t();
  padded.narrow(0, 0, top.size(0)).copy_(top);
  return at::ormqr(qr, tau, padded, /*left=*/true, /*transpose=*/false);
}

void require_finite(const at::Tensor& core_matrix) {
  core::require(std::isfinite(core_matrix.norm().item<double>()),
                "compact: a factor holds NaN or infinity");
}

void decompose_core(Decomposition& result, const at::Tensor& core_matrix) {
  require_finite(core_matrix);
  at::Tensor v_transposed;
  std::tie(result.u, result.sigma, v_transposed) =
      at::linalg_svd(core_matrix, /*full_matrices=*/false);
  result.v = v_transposed.t();
}

Decomposition decompose(const at::Tensor& b, const at::Tensor& a) {
  const int64_t rank = a.size(0);
  Decomposition result;
  if (rank < std::min(b.size(0), a.size(1))) {
    std::tie(result.b_qr, result.b_tau) = at::geqrf(b);
    std::tie(result.a_qr, result.a_tau) = at::geqrf(a.t());
    decompose_core(result, at::mm(upper_triangle(result.b_qr), upper_triangle(result.a_qr).t()));
  } else {
    decompose_core(result, at::mm(b, a));
  }
  return result;
}

int64_t rank_of(const ScaledFactors& term) { return term.scale == 0.0 ? 0 : term.factors.rank(); }

/// Σ scale · B · A, stacks of at most `most` ranks (or one term) at a time.
at::Tensor product_of(std::span<const ScaledFactors> terms, int64_t most, StackBuffer& buffer) {
  at::Tensor sum;
  while (!terms.empty()) {
    std::size_t count = 1;
    int64_t rank = rank_of(terms.front());
    while (count < terms.size() && rank + rank_of(terms[count]) <= most) {
      rank += rank_of(terms[count++]);
    }
    const tensors::Factors part = buffer.fill(terms.first(count));
    sum = sum.defined() ? sum.addmm_(part.b, part.a) : at::mm(part.b, part.a);
    terms = terms.subspan(count);
  }
  return sum;
}

/// Singular values [first, last) as balanced factors with fixed signs.
tensors::Factors factors_of(const Decomposition& svd, int64_t first, int64_t last,
                            at::ScalarType dtype) {
  const int64_t count = last - first;
  const at::Tensor root = svd.sigma.narrow(0, first, count).sqrt();
  const at::Tensor b = apply_reflectors(svd.b_qr, svd.b_tau, svd.u.narrow(1, first, count) * root);
  const at::Tensor a = apply_reflectors(svd.a_qr, svd.a_tau, svd.v.narrow(1, first, count) * root);
  const at::Tensor largest =
      b.gather(0, b.abs().argmax(/*dim=*/0, /*keepdim=*/true));  // [1, count]
  const at::Tensor sign = at::where(largest < 0, -at::ones_like(largest), at::ones_like(largest));
  return {.b = (b * sign).to(dtype).contiguous(), .a = (a * sign).t().to(dtype).contiguous()};
}

/// Fewest leading values, at least one, such that the rest is at most `tolerance` of the whole.
int64_t rank_within(const std::vector<double>& sigma, double tolerance) {
  double whole = 0.0;
  for (const double value : sigma) whole += value * value;
  const double allowed = tolerance * tolerance * whole;
  double cut = 0.0;
  std::size_t rank = sigma.size();
  while (rank > 1) {
    cut += sigma[rank - 1] * sigma[rank - 1];
    if (cut > allowed) break;
    --rank;
  }
  return static_cast<int64_t>(rank);
}

double share_after(const std::vector<double>& sigma, int64_t rank) {
  double whole = 0.0;
  double cut = 0.0;
  for (std::size_t i = sigma.size(); i-- > 0;) {  // small values first
    whole += sigma[i] * sigma[i];
    if (i == static_cast<std::size_t>(rank)) cut = whole;
  }
  return whole > 0.0 ? std::sqrt(cut / whole) : 0.0;
}

int64_t wanted_rank(const Compaction& compaction, const std::vector<double>& sigma,
                    int64_t lossless_rank) {
  switch (compaction.kind) {
    case CompactionKind::Tolerance:
      return std::min(lossless_rank, rank_within(sigma, compaction.tolerance));
    case CompactionKind::Rank: return std::min(lossless_rank, compaction.rank);
    case CompactionKind::Lossless: return lossless_rank;
    case CompactionKind::None: break;
  }
  throw core::InvariantError("compact: no rank is wanted without compaction");
}

Compacted copy_of(const tensors::Factors& stack, at::ScalarType dtype) {
  const auto copy = [&](const at::Tensor& tensor) {
    return tensor.to(dtype, /*non_blocking=*/false, /*copy=*/true).contiguous();
  };
  return {.factors = {.b = copy(stack.b), .a = copy(stack.a)},
          .tail = {},
          .report = {.stack_rank = stack.rank(),
                     .kept_rank = stack.rank(),
                     .relative_error = 0.0,
                     .sigma = {}}};
}

Compacted cut(const Decomposition& svd, int64_t stack_rank, const Compaction& compaction,
              at::ScalarType dtype) {
  const double* values = svd.sigma.const_data_ptr<double>();
  std::vector<double> sigma(values, values + svd.sigma.numel());
  const int64_t lossless_rank = rank_within(sigma, kLosslessTolerance);
  const int64_t kept_rank = wanted_rank(compaction, sigma, lossless_rank);

  Compacted result;
  result.factors = factors_of(svd, 0, kept_rank, dtype);
  if (kept_rank < lossless_rank) result.tail = factors_of(svd, kept_rank, lossless_rank, dtype);
  result.report = {.stack_rank = stack_rank,
                   .kept_rank = kept_rank,
                   .relative_error = share_after(sigma, kept_rank),
                   .sigma = std::move(sigma)};
  return result;
}

}  // namespace

Compaction compaction_of(const core::AggregationConfig& config) {
  if (config.compaction == "none") return {.kind = CompactionKind::None};
  if (config.compaction == "lossless") return {.kind = CompactionKind::Lossless};
  if (config.compaction == "tolerance") {
    if (!(config.tolerance > 0.0 && config.tolerance < 1.0)) {
      throw core::ConfigError("aggregation.compaction: tolerance must lie between 0 and 1");
    }
    return {.kind = CompactionKind::Tolerance, .tolerance = config.tolerance};
  }
  if (config.compaction == "rank") {
    if (config.rank < 1) throw core::ConfigError("aggregation.compaction: rank must be at least 1");
    return {.kind = CompactionKind::Rank, .rank = config.rank};
  }
  throw core::ConfigError("aggregation.compaction: '" + config.compaction +
                          "' is unknown; use none, lossless, {tolerance = …} or {rank = …}");
}

Compacted compact(const tensors::Factors& stack, const Compaction& compaction,
                  at::ScalarType dtype) {
  core::require(stack.b.dim() == 2 && stack.a.dim() == 2 && stack.b.size(1) == stack.a.size(0) &&
                    stack.rank() >= 1,
                "compact: needs B [out, R] and A [R, in] with R >= 1");
  const at::NoGradGuard no_grad;
  if (compaction.kind == CompactionKind::None) return copy_of(stack, dtype);
  const Decomposition svd = decompose(stack.b.to(at::kDouble), stack.a.to(at::kDouble));
  return cut(svd, stack.rank(), compaction, dtype);
}

Compacted compact_sum(std::span<const ScaledFactors> terms, const Compaction& compaction,
                      StackBuffer& buffer) {
  core::require(!terms.empty(), "compact_sum: no term");
  const at::NoGradGuard no_grad;
  const tensors::Factors& first = terms.front().factors;
  const int64_t most = kStackedAtOnce * std::min(first.b.size(0), first.a.size(1));
  int64_t rank = 0;
  for (const ScaledFactors& term : terms) rank += rank_of(term);
  if (compaction.kind == CompactionKind::None || rank <= most) {
    return compact(buffer.fill(terms), compaction);
  }
  Decomposition svd;
  decompose_core(svd, product_of(terms, most, buffer));
  return cut(svd, rank, compaction, at::kFloat);
}

}  // namespace drystone::aggregation
