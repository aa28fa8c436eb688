#pragma once
// Bidirectional scaled dot-product attention over a packed batch (Vaswani et al., 2017,
// arXiv:1706.03762). Differentiable in q, k and v.

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

#include "models/dropout.h"
#include "models/packing.h"

namespace drystone::models {

struct AttentionInput {
  at::Tensor q;  ///< [tokens, hidden], or [rows, hidden]: only the query of each row's first token
  at::Tensor k;  ///< [tokens, hidden]
  at::Tensor v;  ///< [tokens, hidden]
  std::int64_t num_heads = 1;
  Dropout dropout;  ///< on the probabilities
};

/// softmax(q · kᵀ / √(hidden / heads)) · v within every row and head: by rows where that works,
/// else padded. @return  the shape of q
at::Tensor attention(const AttentionInput& input, const Packing& packing);

/// All rows at once in padded layout, by LibTorch's kernels: any device and dtype.
at::Tensor attention_padded(const AttentionInput& input, const Packing& packing);

/// Row by row on the packed tensors: no padding, no mask, no copy into another layout, and products
/// by oneDNN's small kernels (three times LibTorch's bmm at 64 tokens and 32 numbers a head:
/// docs/measurements.md), in float32 of whatever is kept for the backward pass. Probabilities are
/// made again there, so memory stays linear in the tokens.
at::Tensor attention_by_rows(const AttentionInput& input, const Packing& packing);

/// Over the last dimension, in float32 at least; the result has the scores' type.
at::Tensor softmax(const at::Tensor& scores);

/// [rows, tokens, hidden] → [rows, heads, tokens, hidden / heads], a view.
at::Tensor split_heads(const at::Tensor& x, std::int64_t num_heads);

/// [rows, 1, 1, tokens] bool, true where there is a token; none without padding.
std::optional<at::Tensor> key_mask(const Packing& packing);

/// Whether attention_by_rows works here: float32 or bfloat16 on a CPU whose LibTorch has the
/// kernels.
bool can_attend_by_rows(const at::Tensor& q);

}  // namespace drystone::models
