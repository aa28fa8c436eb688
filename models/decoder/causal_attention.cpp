#include "models/decoder/causal_attention.h"

#include <limits>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/tensor.h>

#include "core/check.h"
#include "models/attention.h"
#include "models/device.h"
#include "models/gemm.h"

namespace drystone::models {
namespace {

/// [rows, width, heads · size] → [rows, heads, width, size].
at::Tensor by_head(const at::Tensor& x, std::int64_t size) {
  return x.view({x.size(0), x.size(1), -1, size}).transpose(1, 2);
}

/// [rows or 1, 1, queries, keys] bool: true where a query may see a key.
at::Tensor visible(const Packing& packing, const CausalSpec& spec, bool last_only,
                   at::Device device) {
  const at::Tensor keys = at::arange(packing.padded_tokens, at::TensorOptions(device));
  at::Tensor queries = keys.unsqueeze(0);
  if (last_only) {
    std::vector<std::int64_t> places;
    for (std::int64_t row = 0; row < packing.rows(); ++row)
      places.push_back(packing.length(row) - 1);
    queries = send(at::tensor(places, at::kLong), device).unsqueeze(1);
  }
  const at::Tensor ahead = queries.unsqueeze(-1) - keys;  // how far the key lies behind the query
  at::Tensor mask = ahead >= 0;
  if (spec.window > 0) mask = mask & (ahead < spec.window);
  return mask.unsqueeze(1);
}

/// The definition, operation by operation: the fused kernels have no cap and no keyed dropout.
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const at::Tensor& mask, const CausalInput& input) {
  const CausalSpec& spec = input.spec;
  at::Tensor scores = at_least_float(q.matmul(k.transpose(-2, -1))) * spec.scale;
  if (spec.softcap > 0.0) scores = (scores / spec.softcap).tanh() * spec.softcap;
  scores = scores.masked_fill(mask.logical_not(), -std::numeric_limits<double>::infinity());
  return apply_dropout(scores.softmax(-1).to(v.scalar_type()), input.dropout).matmul(v);
}

}  // namespace

at::Tensor causal_attention(const CausalInput& input, const Packing& packing) {
  return can_attend_by_rows(input.q) ? causal_attention_by_blocks(input, packing)
                                     : causal_attention_padded(input, packing);
}

at::Tensor causal_attention_padded(const CausalInput& input, const Packing& packing) {
  const CausalSpec& spec = input.spec;
  const bool last_only = input.q.size(0) != packing.num_tokens();
  const at::Tensor flat_q = input.q.flatten(1);
  const at::Tensor q =
      by_head(last_only ? flat_q.unsqueeze(1) : packing.pad(flat_q), spec.head_size);
  at::Tensor k = by_head(packing.pad(input.k.flatten(1)), spec.head_size);
  at::Tensor v = by_head(packing.pad(input.v.flatten(1)), spec.head_size);
  if (const std::int64_t group = spec.num_heads / spec.num_kv_heads; group > 1) {
    k = k.repeat_interleave(group, 1);
    v = v.repeat_interleave(group, 1);
  }
  // Padding is on the right of this layout, where no token looks.
  const bool is_plain = !last_only && (spec.window == 0 || spec.window >= packing.padded_tokens);
  at::Tensor heads;
  if (input.dropout.active() || spec.softcap > 0.0) {
    heads = attend(q, k, v, visible(packing, spec, last_only, q.device()), input);
  } else if (is_plain) {
    heads = at::scaled_dot_product_attention(q, k, v, {}, 0.0, /*is_causal=*/true, spec.scale);
  } else {
    heads = at::scaled_dot_product_attention(q, k, v, visible(packing, spec, last_only, q.device()),
                                             0.0, false, spec.scale);
  }
  const at::Tensor joined = heads.transpose(1, 2).flatten(2);
  return last_only ? joined.squeeze(1) : packing.unpad(joined);
}

}  // namespace drystone::models
