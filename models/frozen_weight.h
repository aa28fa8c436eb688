#pragma once
// A linear layer's frozen weight, dense or in 4 bits, as forward and backward need it.

#include <cstdint>
#include <functional>
#include <utility>

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include "models/nf4.h"
#include "tensors/factors.h"

namespace drystone::models {

/// W = dense, or W = NF4 + B·A, where B·A is what was published on top of a quantised base: a grid
/// of 16 values has no room for it. Immutable; records nothing for autograd.
class FrozenWeight : public torch::CustomClassHolder {
 public:
  /// @param dense  [out, in]
  explicit FrozenWeight(at::Tensor dense) : dense_(std::move(dense)) {}
  /// @param side  of the weight's shape on its device; undefined: nothing
  FrozenWeight(Nf4Ptr quantized, tensors::Factors side)
      : quantized_(std::move(quantized)), side_(std::move(side)) {}

  /// x · Wᵀ + bias. @param x  [tokens, in]  @param bias  [out] or undefined  @return [tokens, out]
  virtual at::Tensor forward(const at::Tensor& x, const at::Tensor& bias) const;
  /// gradient · W. @param gradient  [tokens, out]  @return [tokens, in]
  virtual at::Tensor backward_input(const at::Tensor& gradient) const;

  /// W by pieces of rows, in order: [count, in] from row `first` on, a few megabytes at most; fp32,
  /// or fp64 of an fp64 weight. Not to be written to or kept.
  using RowVisitor = std::function<void(std::int64_t first, const at::Tensor& rows)>;
  void visit_rows(const RowVisitor& visit) const;

 private:
  at::Tensor dense_;
  Nf4Ptr quantized_;
  tensors::Factors side_;
};

using FrozenWeightPtr = c10::intrusive_ptr<FrozenWeight>;

/// `forward` with the gradient by x. @param x  [..., in]  @return [..., out]
at::Tensor frozen_linear(const at::Tensor& x, const FrozenWeightPtr& weight,
                         const at::Tensor& bias);

}  // namespace drystone::models
