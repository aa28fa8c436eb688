#pragma once
// The sum of one module's updates over all versions, exact to float64.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "tensors/factors.h"

namespace drystone::aggregation {

/// Σ B_v · A_v in float64: as factors, or, once their rank would reach the smaller side, as the
/// product itself. Neither is defined before the first update.
struct ModuleSum {
  tensors::Factors factors;
  at::Tensor product;  ///< [out, in]

  bool is_empty() const { return !product.defined() && !factors.b.defined(); }
  int64_t out_features() const { return product.defined() ? product.size(0) : factors.b.size(0); }
  int64_t in_features() const { return product.defined() ? product.size(1) : factors.a.size(1); }
  /// Of what factors() gives.
  int64_t rank() const;
  /// B · A in `dtype`, contiguous, fresh storage: of a product the smaller factor is the identity.
  tensors::Factors in_factors(at::ScalarType dtype) const;
};

/// sum + update. Factors are put side by side, or multiplied out where that is no larger; a
/// decomposition, which costs ten times as much, is made only where columns depend on each other
/// and the sum has a smaller rank therefore (compaction.h, Lossless).
/// @param sum     not modified; may be empty
/// @param update  float32 or float64, rank ≥ 1
/// @throws core::InvalidArgument  another shape than the sum's, or a number that is not finite
ModuleSum add(const ModuleSum& sum, const tensors::Factors& update);

/// The same, cut to at most `max_rank` columns. @param relative_tail  raised to the share that was
/// cut, Frobenius
ModuleSum add_bounded(const ModuleSum& sum, const tensors::Factors& update, int64_t max_rank,
                      double& relative_tail);

}  // namespace drystone::aggregation
