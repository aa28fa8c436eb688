#pragma once
// A linear layer's frozen weight, dense or quantised, as forward and backward need it.

#include <cstdint>
#include <functional>
#include <utility>

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include "models/quantized/quantized_weight.h"
#include "tensors/factors.h"

namespace drystone::models {

class FrozenWeight;
using FrozenWeightPtr = c10::intrusive_ptr<FrozenWeight>;

/// W = dense, or W = quantised + B·A, where B·A is what was published on top of a quantised base: a
/// grid of 16 values has no room for it. Immutable; records nothing for autograd.
class FrozenWeight : public torch::CustomClassHolder {
 public:
  /// @param dense  [out, in]
  explicit FrozenWeight(at::Tensor dense) : dense_(std::move(dense)) {}
  /// @param side  of the weight's shape on its device; undefined: nothing
  FrozenWeight(QuantizedPtr quantized, tensors::Factors side)
      : quantized_(std::move(quantized)), side_(std::move(side)) {}

  /// W + scale · B·A for a few products. Dense: a matrix of W's size. Quantised: B·A is added to
  /// the rows as they are dequantised. Only where can_add.
  FrozenWeightPtr plus(const tensors::Factors& factors, double scale) const;
  /// Whether `plus` can: it keeps B·A's digits, so not in 16 bits, and needs all of W here.
  bool can_add() const {
    return is_quantized() || (dense_.defined() && dense_.element_size() >= 4);
  }
  bool is_quantized() const { return quantized_.defined(); }
  /// Rank of what was published on top of a quantised base.
  std::int64_t side_rank() const { return side_.a.defined() ? side_.rank() : 0; }

  /// x · Wᵀ + bias. @param x  [tokens, in], of a dense weight's type
  /// @param bias  [out] or undefined  @return [tokens, out] in x's type
  virtual at::Tensor forward(const at::Tensor& x, const at::Tensor& bias) const;
  /// gradient · W. @param gradient  [tokens, out]
  /// @return [tokens, in] in the gradient's type
  virtual at::Tensor backward_input(const at::Tensor& gradient) const;

  /// W by pieces of rows, in order: [count, in] from row `first` on, a few megabytes at most; fp32,
  /// or fp64 of an fp64 weight. Not to be written to or kept.
  using RowVisitor = QuantizedWeight::RowVisitor;
  void visit_rows(const RowVisitor& visit) const;

 private:
  at::Tensor dense_;
  QuantizedPtr quantized_;
  tensors::Factors side_;
  bool folds_ = false;  ///< the side is added to the dequantised rows
};

/// `forward` with the gradient by x. @param x  [..., in]  @return [..., out]
at::Tensor frozen_linear(const at::Tensor& x, const FrozenWeightPtr& weight,
                         const at::Tensor& bias);

}  // namespace drystone::models
