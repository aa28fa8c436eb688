#pragma once
// The smallest factors with the same product: QR of both stacked factors and an SVD of the small
// core between them (as FLoRIST, 2025, arXiv:2506.09199, with two QRs for its two thin SVDs), and
// the part that is cut, for error feedback.

#include <cstdint>
#include <span>
#include <vector>

#include "aggregation/stacking.h"
#include "core/config.h"
#include "tensors/factors.h"

namespace drystone::aggregation {

enum class CompactionKind { None, Lossless, Tolerance, Rank };

struct Compaction {
  CompactionKind kind = CompactionKind::Lossless;
  double tolerance = 0.0;  ///< Tolerance: most that may be cut, relative to the product's norm
  int64_t rank = 0;        ///< Rank: most columns that may be kept
};

/// @throws core::ConfigError  an unknown kind, tolerance outside (0, 1), rank < 1
Compaction compaction_of(const core::AggregationConfig& config);

/// What Lossless (and Rank, at most) cuts: singular values whose root sum of squares is at most
/// this share of the product's Frobenius norm. It is 2⁻²³, the spacing of float32 at 1: less than
/// writing the factors in float32 changes the product by, so what goes is only ranks that rounding
/// made up.
inline constexpr double kLosslessTolerance = 1.1920928955078125e-7;

struct CompactionReport {
  int64_t stack_rank = 0;  ///< R of the input
  int64_t kept_rank = 0;
  double relative_error = 0.0;  ///< ‖what was cut‖ / ‖product‖, Frobenius; 0 for a zero product
  std::vector<double> sigma;    ///< all singular values, descending; empty for CompactionKind::None
};

struct Compacted {
  tensors::Factors factors;  ///< B = U·√σ [out, t], A = √σ·Vᵀ [t, in]
  /// The part that was cut, of the same form: factors.product() + tail.product() is the input's
  /// product. Undefined tensors when nothing above kLosslessTolerance was cut.
  tensors::Factors tail;
  CompactionReport report;

  bool has_tail() const { return tail.b.defined(); }
};

/// @param stack  B [out, R], A [R, in], float32 or float64, finite, any strides, R ≥ 1
/// @param dtype  of the result; the arithmetic is float64 throughout
/// @return       contiguous factors of rank max(1, t), t = fewest columns that `compaction` allows.
///               Signs are fixed: the entry of largest size of each column of B is positive.
/// Equal inputs give equal bits on one machine with one number of threads (tensors/threads.h).
/// Costs about 8·(out + in)·R² + 30·R³ flops; where R ≥ min(out, in) the [out, in] product is
/// formed and decomposed instead. CompactionKind::None copies.
/// @throws core::InvalidArgument  not a pair of factors, or a number that is not finite
Compacted compact(const tensors::Factors& stack, const Compaction& compaction,
                  at::ScalarType dtype = at::kFloat);

/// Of a sum's terms together, at most this many times min(out, in) are stacked at a time.
inline constexpr int64_t kStackedAtOnce = 4;

/// compact of the terms' stack, float32. Where that has more than kStackedAtOnce · min(out, in)
/// ranks, products of its parts are summed in their order: memory follows the module, not the
/// number of terms.
/// @param buffer  of float64; nobody else uses it meanwhile
/// @throws core::InvalidArgument  as StackBuffer::fill and compact
Compacted compact_sum(std::span<const ScaledFactors> terms, const Compaction& compaction,
                      StackBuffer& buffer);

}  // namespace drystone::aggregation
