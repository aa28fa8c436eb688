#include "models/attention.h"

#include <cmath>
#include <limits>

#include <ATen/TensorOperators.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/zeros.h>

#include "models/gemm.h"

namespace drystone::models {
namespace {

/// The definition, operation by operation: the fused kernels take no keyed dropout.
at::Tensor attend_with_dropout(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const std::optional<at::Tensor>& mask, const Dropout& dropout) {
  at::Tensor scores = q.matmul(k.transpose(-2, -1)) / std::sqrt(static_cast<double>(q.size(-1)));
  if (mask) {
    scores = scores.masked_fill(mask->logical_not(), -std::numeric_limits<double>::infinity());
  }
  return apply_dropout(softmax(scores), dropout).matmul(v);
}

}  // namespace

at::Tensor softmax(const at::Tensor& scores) {
  return at_least_float(scores).softmax(-1).to(scores.scalar_type());
}

at::Tensor split_heads(const at::Tensor& x, std::int64_t num_heads) {
  return x.view({x.size(0), x.size(1), num_heads, x.size(2) / num_heads}).transpose(1, 2);
}

std::optional<at::Tensor> key_mask(const Packing& packing) {
  if (!packing.index.defined()) return std::nullopt;
  const at::Tensor tokens =
      at::zeros({packing.rows() * packing.padded_tokens}, packing.index.options().dtype(at::kBool));
  return tokens.index_fill(0, packing.index, true)
      .view({packing.rows(), 1, 1, packing.padded_tokens});
}

at::Tensor attention(const AttentionInput& input, const Packing& packing) {
  return can_attend_by_rows(input.q) ? attention_by_rows(input, packing)
                                     : attention_padded(input, packing);
}

at::Tensor attention_padded(const AttentionInput& input, const Packing& packing) {
  const bool first_only = input.q.size(0) == packing.rows();
  const at::Tensor q =
      split_heads(first_only ? input.q.unsqueeze(1) : packing.pad(input.q), input.num_heads);
  const at::Tensor k = split_heads(packing.pad(input.k), input.num_heads);
  const at::Tensor v = split_heads(packing.pad(input.v), input.num_heads);
  const auto mask = key_mask(packing);
  const at::Tensor heads = input.dropout.active()
                               ? attend_with_dropout(q, k, v, mask, input.dropout)
                               : at::scaled_dot_product_attention(q, k, v, mask);
  const at::Tensor joined = heads.transpose(1, 2).flatten(2);
  return first_only ? joined.squeeze(1) : packing.unpad(joined);
}

}  // namespace drystone::models
