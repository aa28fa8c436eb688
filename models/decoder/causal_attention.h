#pragma once
// Causal scaled dot-product attention over a packed batch: grouped queries (Ainslie et al., 2023,
// arXiv:2305.13245), a sliding window (Beltagy et al., 2020, arXiv:2004.05150), capped scores
// (Gemma 2, arXiv:2408.00118). Differentiable in q, k and v.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/dropout.h"
#include "models/packing.h"

namespace drystone::models {

/// What one layer's attention is, besides its tensors.
struct CausalSpec {
  std::int64_t num_heads = 1;
  std::int64_t num_kv_heads = 1;  ///< divides num_heads; head h reads from h · kv / heads
  std::int64_t head_size = 1;
  double scale = 1.0;       ///< on q · kᵀ
  double softcap = 0.0;     ///< c: scores become c · tanh(scores / c); 0: as they are
  std::int64_t window = 0;  ///< a token sees itself and the window − 1 tokens before; 0: all before
};

struct CausalInput {
  at::Tensor q;  ///< [tokens, heads, head size], or [rows, …]: only each row's last token asks
  at::Tensor k;  ///< [tokens, kv heads, head size]
  at::Tensor v;  ///< [tokens, kv heads, head size]
  CausalSpec spec;
  Dropout dropout;  ///< on the probabilities
};

/// Every token attends to its row's tokens up to itself: in blocks where that works, else padded.
/// The tensors' heads must be contiguous within a token, tokens at any stride.
/// @return  [queries, heads · head size], contiguous
at::Tensor causal_attention(const CausalInput& input, const Packing& packing);

/// All rows at once in padded layout, by LibTorch's kernels: any device and dtype.
at::Tensor causal_attention_padded(const CausalInput& input, const Packing& packing);

/// Row by row in blocks of queries, which meet only the keys that they may see: no padding, half
/// the products of a masked square, and less under a window. Products by oneDNN's small kernels, as
/// in attention_by_rows, in float32 of whatever is kept for the backward pass. Probabilities are
/// made again there.
at::Tensor causal_attention_by_blocks(const CausalInput& input, const Packing& packing);

}  // namespace drystone::models
