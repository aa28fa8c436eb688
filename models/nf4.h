#pragma once
// A frozen weight in 4 bits: NF4 with double quantisation (Dettmers et al., 2023, QLoRA,
// arXiv:2305.14314), code for code as bitsandbytes stores it.

#include <cstdint>
#include <functional>
#include <span>

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

namespace drystone::models {

struct Nf4Options {
  std::int64_t block_size = 64;  ///< weights that share an absmax: 32, 64, … 4096
  bool double_quantization = true;
};

/// A matrix [out, in] in blocks of its row-major elements; a block may straddle rows.
/// Immutable. Costs 4 + 8/64 + 32/(64·256) = 4.127 bits a weight with the default options, 4.5
/// without double quantisation.
class Nf4Weight : public torch::CustomClassHolder {
 public:
  /// Largest memory beside the result: one block row in float32.
  /// @param weight  [out, in] of any floating type, on CPU; not kept
  /// @throws core::InvalidArgument  not a matrix, another block size, or a weight that is not
  ///                                finite
  explicit Nf4Weight(const at::Tensor& weight, const Nf4Options& options = {});

  std::int64_t out_features() const { return out_; }
  std::int64_t in_features() const { return in_; }
  std::int64_t num_bytes() const;

  /// Two codes a byte, the even element in the high nibble; [⌈out·in / 2⌉] uint8.
  const at::Tensor& codes() const { return codes_; }
  /// The scale of each block as it is used, [blocks] float32: of double quantisation the
  /// dequantised one.
  at::Tensor scales() const;
  at::Device device() const { return codes_.device(); }
  c10::intrusive_ptr<Nf4Weight> to(at::Device device) const;

  /// W a few rows at a time, in order: fp32 [count, in] from row `first` on, in a buffer that the
  /// next call overwrites.
  using RowVisitor = std::function<void(std::int64_t first, const at::Tensor& rows)>;
  void visit_rows(const RowVisitor& visit) const;

  /// All of it, [out, in]: value = code · scale in float32, then cast to `dtype`.
  at::Tensor dequantize(at::ScalarType dtype = at::kFloat) const;

  /// x · Wᵀ, W dequantised a few rows at a time: the matrix as a whole never exists.
  /// @param x  [tokens, in]   @return [tokens, out] in x's dtype
  at::Tensor forward(const at::Tensor& x) const;
  /// gradient · W in the same way. @param gradient  [tokens, out]   @return [tokens, in]
  at::Tensor backward_input(const at::Tensor& gradient) const;

 private:
  Nf4Weight() = default;
  void set_scales(const at::Tensor& absmax, bool double_quantization);
  /// Rows [first, first + count) into `target` [count, in] float32.
  void dequantize_rows(std::int64_t first, std::int64_t count, const at::Tensor& scales,
                       at::Tensor& target) const;
  std::int64_t rows_at_once() const;

  std::int64_t out_ = 0;
  std::int64_t in_ = 0;
  std::int64_t block_size_ = 64;
  at::Tensor codes_;
  at::Tensor absmax_;         ///< [blocks] float32; undefined with double quantisation
  at::Tensor absmax_codes_;   ///< [blocks] uint8: places in the dynamic 8-bit map
  at::Tensor absmax_scales_;  ///< [⌈blocks / 256⌉] float32
  float absmax_offset_ = 0.0F;
};

using Nf4Ptr = c10::intrusive_ptr<Nf4Weight>;

/// The 16 values of NF4, ascending: quantiles of N(0, 1) scaled to [−1, 1], zero among them.
std::span<const float, 16> nf4_values();

}  // namespace drystone::models
