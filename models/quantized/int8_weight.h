#pragma once
// A frozen weight in 8 bits: each row's absmax over 127 (Dettmers et al., 2022, LLM.int8,
// arXiv:2208.07339, section 2.1), code for code as bitsandbytes stores it. Weights only: products
// take them dequantised, so activations need no outlier columns.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/quantized/quantized_weight.h"

namespace drystone::models {

/// Immutable. Costs 8 + 32 / in bits a weight; the error of a weight is at most absmax / 254.
class Int8Weight final : public QuantizedWeight {
 public:
  /// @param weight  [out, in] of any floating type, on CPU; not kept
  /// @throws core::InvalidArgument  not a matrix, or a weight that is not finite
  explicit Int8Weight(const at::Tensor& weight);

  std::int64_t num_bytes() const override;
  at::Device device() const override { return codes_.device(); }
  QuantizedPtr to(at::Device device) const override;

  /// [out, in] int8.
  const at::Tensor& codes() const { return codes_; }
  /// Each row's absmax, [out] float32.
  at::Tensor scales() const override { return absmax_; }

 protected:
  void dequantize_rows(std::int64_t first, const at::Tensor& scales,
                       at::Tensor& target) const override;

 private:
  at::Tensor codes_;
  at::Tensor absmax_;
};

}  // namespace drystone::models
