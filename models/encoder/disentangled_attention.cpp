#include "models/encoder/disentangled_attention.h"

#include <limits>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/ceil.h>
#include <ATen/ops/log.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/where.h>

#include "core/check.h"

namespace drystone::models {
namespace {

/// [distances, hidden] → [heads, distances, hidden / heads], a view.
at::Tensor split_distances(const at::Tensor& x, std::int64_t num_heads) {
  return x.view({x.size(0), num_heads, x.size(1) / num_heads}).transpose(0, 1);
}

/// […, T, 2T − 1] → […, T, T]: element (i, j) is x(i, j − i + T − 1). A view where x is contiguous.
at::Tensor skew(const at::Tensor& x) {
  const std::int64_t tokens = x.size(-2);
  if (tokens == 1) return x;
  const std::int64_t stride = 2 * tokens - 2;
  return x.flatten(-2)
      .narrow(-1, tokens - 1, tokens * stride)
      .unflatten(-1, {tokens, stride})
      .narrow(-1, 0, tokens);
}

/// q·P_kᵀ at each pair's distance, [rows, heads, queries, keys].
at::Tensor content_to_position(const at::Tensor& q, const at::Tensor& terms, std::int64_t tokens) {
  const at::Tensor table = split_distances(terms, q.size(1));
  if (q.size(2) == tokens) return skew(q.matmul(table.transpose(-2, -1)));
  return q.matmul(table.narrow(1, tokens - 1, tokens).transpose(-2, -1));
}

/// k·P_qᵀ at each pair's distance, [rows, heads, queries, keys].
at::Tensor position_to_content(const at::Tensor& k, const at::Tensor& terms, std::int64_t queries) {
  const at::Tensor table = split_distances(terms, k.size(1));
  const std::int64_t tokens = k.size(2);
  if (queries == tokens) return skew(k.matmul(table.transpose(-2, -1))).transpose(-2, -1);
  return (k * table.narrow(1, 0, tokens).flip(1)).sum(-1).unsqueeze(-2);
}

}  // namespace

at::Tensor disentangled_attention(const AttentionInput& input, const PositionTerms& positions,
                                  double scale, const Packing& packing) {
  const bool first_only = input.q.size(0) == packing.rows();
  const at::Tensor q =
      split_heads(first_only ? input.q.unsqueeze(1) : packing.pad(input.q), input.num_heads);
  const at::Tensor k = split_heads(packing.pad(input.k), input.num_heads);
  const at::Tensor v = split_heads(packing.pad(input.v), input.num_heads);
  at::Tensor scores = q.matmul(k.transpose(-2, -1));
  if (positions.key.defined()) {
    scores = scores + content_to_position(q, positions.key, k.size(2));
  }
  if (positions.query.defined()) {
    scores = scores + position_to_content(k, positions.query, q.size(2));
  }
  scores = scores * scale;
  if (const auto mask = key_mask(packing)) {
    scores = scores.masked_fill(mask->logical_not(), -std::numeric_limits<double>::infinity());
  }
  const at::Tensor heads = apply_dropout(softmax(scores), input.dropout).matmul(v);
  const at::Tensor joined = heads.transpose(1, 2).flatten(2);
  return first_only ? joined.squeeze(1) : packing.unpad(joined);
}

at::Tensor relative_rows(std::int64_t tokens, std::int64_t span, std::int64_t buckets,
                         std::int64_t max_positions) {
  core::require(tokens >= 1 && span >= 1, "relative_rows: no tokens or no span");
  at::Tensor rows = at::arange(1 - tokens, tokens, at::kLong);
  if (buckets > 0) {
    // float32 as in the reference: a bucket's border may hang on the last bit
    const std::int64_t middle = buckets / 2;
    const at::Tensor distance = rows.abs();
    const auto ratio = static_cast<double>(max_positions - 1) / static_cast<double>(middle);
    const at::Tensor steps = at::log(distance.to(at::kFloat) / static_cast<double>(middle)) /
                             at::log(at::scalar_tensor(ratio, at::kFloat)) *
                             static_cast<double>(middle - 1);
    const at::Tensor far = (at::ceil(steps) + static_cast<double>(middle)) * rows.sign();
    rows = at::where(distance.le(middle), rows.to(at::kFloat), far).to(at::kLong);
  }
  return (rows + span).clamp(0, 2 * span - 1);
}

}  // namespace drystone::models
