#pragma once
// What the quantised bases share: a frozen matrix whose products dequantise a few rows at a time.

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include "tensors/factors.h"

namespace drystone::models {

/// A matrix [out, in] in fewer bits. Immutable.
class QuantizedWeight : public torch::CustomClassHolder {
 public:
  std::int64_t out_features() const { return out_; }
  std::int64_t in_features() const { return in_; }
  virtual std::int64_t num_bytes() const = 0;
  virtual at::Device device() const = 0;
  virtual c10::intrusive_ptr<QuantizedWeight> to(at::Device device) const = 0;

  /// The scales as `dequantize_rows` uses them, float32.
  virtual at::Tensor scales() const = 0;
  /// All of it, [out, in]: computed in float32, then cast to `dtype`.
  at::Tensor dequantize(at::ScalarType dtype = at::kFloat) const;

  /// W a few rows at a time, in order: float32 [count, in] from row `first` on, in a buffer that
  /// the next call overwrites.
  using RowVisitor = std::function<void(std::int64_t first, const at::Tensor& rows)>;
  void visit_rows(const RowVisitor& visit) const;

  /// x · (W + B·A)ᵀ a few rows of W at a time: the matrix as a whole never exists.
  /// @param x     [tokens, in]
  /// @param plus  float32, of W's shape; B·A is added to the dequantised rows; undefined: nothing
  /// @return      [tokens, out] in x's dtype
  at::Tensor forward(const at::Tensor& x, const tensors::Factors& plus = {}) const;
  /// gradient · (W + B·A) in the same way. @param gradient  [tokens, out]   @return [tokens, in]
  at::Tensor backward_input(const at::Tensor& gradient, const tensors::Factors& plus = {}) const;

 protected:
  QuantizedWeight(std::int64_t out, std::int64_t in) : out_(out), in_(in) {}
  /// Rows [first, first + target's) into `target` [rows, in] float32.
  virtual void dequantize_rows(std::int64_t first, const at::Tensor& scales,
                               at::Tensor& target) const = 0;

 private:
  /// visit_rows of W + B·A.
  void visit_sum(const tensors::Factors& plus, const RowVisitor& visit) const;

  std::int64_t out_;
  std::int64_t in_;
};

using QuantizedPtr = c10::intrusive_ptr<QuantizedWeight>;

}  // namespace drystone::models
