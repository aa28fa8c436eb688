#pragma once
// A frozen weight in 4 bits: NF4 with double quantisation (Dettmers et al., 2023, QLoRA,
// arXiv:2305.14314), code for code as bitsandbytes stores it.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/quantized/quantized_weight.h"

namespace drystone::models {

struct Nf4Options {
  std::int64_t block_size = 64;  ///< weights that share an absmax: 32, 64, … 4096
  bool double_quantization = true;
};

/// A matrix [out, in] in blocks of its row-major elements; a block may straddle rows.
/// Immutable. Costs 4 + 8/64 + 32/(64·256) = 4.127 bits a weight with the default options, 4.5
/// without double quantisation.
class Nf4Weight final : public QuantizedWeight {
 public:
  /// Largest memory beside the result: one block row in float32.
  /// @param weight  [out, in] of any floating type, on CPU; not kept
  /// @throws core::InvalidArgument  not a matrix, another block size, or a weight that is not
  ///                                finite
  explicit Nf4Weight(const at::Tensor& weight, const Nf4Options& options = {});

  std::int64_t num_bytes() const override;
  at::Device device() const override { return codes_.device(); }
  QuantizedPtr to(at::Device device) const override;

  /// Two codes a byte, the even element in the high nibble; [⌈out·in / 2⌉] uint8.
  const at::Tensor& codes() const { return codes_; }
  /// One for each block, [blocks] float32: of double quantisation the dequantised one.
  at::Tensor scales() const override;

 protected:
  void dequantize_rows(std::int64_t first, const at::Tensor& scales,
                       at::Tensor& target) const override;

 private:
  void set_scales(const at::Tensor& absmax, bool double_quantization);

  std::int64_t block_size_ = 64;
  at::Tensor values_;  ///< of NF4, [16] float32
  at::Tensor map_;     ///< of doubly quantised scales, [256] float32; else undefined
  at::Tensor codes_;
  at::Tensor absmax_;         ///< [blocks] float32; undefined with double quantisation
  at::Tensor absmax_codes_;   ///< [blocks] uint8: places in the dynamic 8-bit map
  at::Tensor absmax_scales_;  ///< [⌈blocks / 256⌉] float32
  float absmax_offset_ = 0.0F;
};

}  // namespace drystone::models
