#pragma once
// Factors that select: one entry in each row of A, or in each column of B (SBoRA's basis vectors).

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

#include "core/bytes.h"
#include "core/expected.h"

namespace drystone::tensors {

/// One of a module's factors, A [rank, in] or B [out, rank]. Its components are A's rows or B's
/// columns, its width is in or out.
enum class Side { A, B };

/// A factor by where its entries are and what they are; all others are +0.
struct Selector {
  at::Tensor index;  ///< [rank] int32 in [0, width), repetitions allowed
  at::Tensor value;  ///< [rank] float32; undefined where all are 1
};

/// The entries of a factor whose every component has exactly one that is not +0, or nothing. Costs
/// one component's width for a factor that does not select.
/// @param factor  float32, on CPU, any strides
std::optional<Selector> selector_of(const at::Tensor& factor, Side side);

/// Every int32 of `index` lies in [0, width). Refuses with PlanMismatch and the first that does
/// not. `index` need not be aligned.
/// @throws core::InvalidArgument  length not a multiple of 4
core::Expected<void> check_index(core::ByteView index, int64_t width);

/// The factor, dense, contiguous and with the very bits that selector_of saw.
/// @throws core::InvalidArgument  an index outside of the width
at::Tensor dense_factor(const Selector& selector, Side side, int64_t width);

}  // namespace drystone::tensors
