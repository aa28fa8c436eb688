// attention_by_rows: each row's heads by oneDNN's small matrix kernels, forward and backward.
// Probabilities are made again in the backward pass.

#include <cmath>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_softmax_backward_data.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/softmax.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/check.h"
#include "models/attention.h"
#include "models/small_product.h"

namespace drystone::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool kernels_work() {
#if defined(CPUBLAS_BRGEMM_F32F32F32)
  try {
    const float a = 3.0F;
    const float b = 5.0F;
    float c = 0.0F;
    SmallProduct{1, 1, 1, 1, 1, 1}.run(&a, &b, &c);
    return c == 15.0F;
  } catch (const c10::Error&) {
    return false;  // not on this processor
  }
#else
  return false;
#endif
}

/// The heads of one row: x [queries, hidden] and y [keys, hidden] hold a head in head_size columns.
struct Heads {
  std::int64_t count, size, queries, keys;

  std::int64_t hidden() const { return count * size; }
  std::int64_t num_pairs() const { return queries * keys; }

  /// pairs [heads, queries, keys] = x · yᵀ, from y_t [hidden, keys].
  void pair_(at::Tensor& pairs, const at::Tensor& x, const at::Tensor& y_t) const {
    const SmallProduct product{queries, keys, size, hidden(), keys, keys};
    for_each([&](std::int64_t head) {
      product.run(x.const_data_ptr<float>() + head * size,
                  y_t.const_data_ptr<float>() + head * size * keys,
                  pairs.mutable_data_ptr<float>() + head * num_pairs());
    });
  }
  /// out [queries, hidden] = pairs · y.
  void combine_(at::Tensor& out, const at::Tensor& pairs, const at::Tensor& y) const {
    const SmallProduct product{queries, size, keys, keys, hidden(), hidden()};
    for_each([&](std::int64_t head) {
      product.run(pairs.const_data_ptr<float>() + head * num_pairs(),
                  y.const_data_ptr<float>() + head * size,
                  out.mutable_data_ptr<float>() + head * size);
    });
  }
  /// pairsᵀ · x [keys, hidden], from x_t [hidden, queries].
  at::Tensor combine_transposed(const at::Tensor& pairs, const at::Tensor& x_t) const {
    at::Tensor out_t = at::empty({hidden(), keys}, x_t.options());
    const SmallProduct product{size, keys, queries, queries, keys, keys};
    for_each([&](std::int64_t head) {
      product.run(x_t.const_data_ptr<float>() + head * size * queries,
                  pairs.const_data_ptr<float>() + head * num_pairs(),
                  out_t.mutable_data_ptr<float>() + head * size * keys);
    });
    return out_t.t();
  }

 private:
  template <typename Body>
  void for_each(const Body& body) const {
    for (std::int64_t head = 0; head < count; ++head) body(head);
  }
};

at::Tensor transposed(const at::Tensor& matrix) { return matrix.t().contiguous(); }

/// What fixes the result besides the tensors: the rows' places, the heads and the dropout.
struct Plan {
  std::vector<std::int64_t> query_offsets;  ///< row r's queries are [r, r + 1); likewise its keys
  std::vector<std::int64_t> key_offsets;
  std::int64_t num_heads = 1;
  std::int64_t head_size = 1;
  Dropout dropout;

  std::int64_t rows() const { return static_cast<std::int64_t>(key_offsets.size()) - 1; }
  double scale() const { return 1.0 / std::sqrt(static_cast<double>(head_size)); }

  Heads heads(std::int64_t row) const {
    const auto r = static_cast<std::size_t>(row);
    return {.count = num_heads,
            .size = head_size,
            .queries = query_offsets[r + 1] - query_offsets[r],
            .keys = key_offsets[r + 1] - key_offsets[r]};
  }
  at::Tensor queries_of(const at::Tensor& x, std::int64_t row) const {
    return x.narrow(0, query_offsets[static_cast<std::size_t>(row)], heads(row).queries);
  }
  at::Tensor keys_of(const at::Tensor& x, std::int64_t row) const {
    return x.narrow(0, key_offsets[static_cast<std::size_t>(row)], heads(row).keys);
  }
  at::Tensor mask_like(const at::Tensor& pairs, std::int64_t row) const {
    return dropout_mask(pairs, {.probability = dropout.probability,
                                .seed = dropout.seed + static_cast<std::uint64_t>(row)});
  }
};

/// softmax(q · kᵀ · scale) of one row, [heads, queries, keys], written into `out`.
void probabilities_(at::Tensor& out, const at::Tensor& q, const at::Tensor& k, const Heads& heads,
                    double scale) {
  heads.pair_(out, q, transposed(k).mul_(scale));
  at::softmax_out(out, out, -1);
}

/// Memory for [heads, queries, keys].
at::Tensor room(const Heads& heads, const at::TensorOptions& options) {
  return at::empty({heads.count, heads.queries, heads.keys}, options);
}

/// Calls body(row) for every row, in parallel where the thread may; rows are independent.
template <typename Body>
void for_each_row(const Plan& plan, const Body& body) {
  at::parallel_for(0, plan.rows(), /*grain_size=*/1, [&](std::int64_t begin, std::int64_t end) {
    const at::NoGradGuard no_grad;
    for (std::int64_t row = begin; row < end; ++row) body(row);
  });
}

at::Tensor run_forward(const Plan& plan, const variable_list& qkv) {
  const at::NoGradGuard no_grad;
  const variable_list floats = in_float(qkv);
  const at::Tensor& q = floats[0];
  const at::Tensor& k = floats[1];
  const at::Tensor& v = floats[2];
  at::Tensor out = at::empty_like(q);
  for_each_row(plan, [&](std::int64_t row) {
    const Heads heads = plan.heads(row);
    at::Tensor pairs = room(heads, q.options());
    probabilities_(pairs, plan.queries_of(q, row), plan.keys_of(k, row), heads, plan.scale());
    at::Tensor row_out = plan.queries_of(out, row);
    heads.combine_(row_out, plan.dropout.active() ? pairs * plan.mask_like(pairs, row) : pairs,
                   plan.keys_of(v, row));
  });
  return out.to(qkv[0].scalar_type());
}

struct Gradients {
  at::Tensor q, k, v;
};

/// Writes one row's part of the gradients. `p` holds its probabilities.
void backward_row_(Gradients& grads, const Plan& plan, std::int64_t row, const variable_list& qkv,
                   const at::Tensor& grad_out, const at::Tensor& p) {
  const Heads heads = plan.heads(row);
  const at::Tensor q = plan.queries_of(qkv[0], row);
  const at::Tensor k = plan.keys_of(qkv[1], row);
  const at::Tensor v = plan.keys_of(qkv[2], row);
  const at::Tensor grad = plan.queries_of(grad_out, row);
  const at::Tensor mask = plan.dropout.active() ? plan.mask_like(p, row) : at::Tensor();

  plan.keys_of(grads.v, row)
      .copy_(heads.combine_transposed(mask.defined() ? p * mask : p, transposed(grad)));
  at::Tensor grad_p = at::empty_like(p);
  heads.pair_(grad_p, grad, transposed(v).mul_(plan.scale()));  // the scores' scale, early
  if (mask.defined()) grad_p.mul_(mask);
  const at::Tensor grad_scores = at::_softmax_backward_data(grad_p, p, -1, at::kFloat);
  at::Tensor grad_q = plan.queries_of(grads.q, row);
  heads.combine_(grad_q, grad_scores, k);
  plan.keys_of(grads.k, row).copy_(heads.combine_transposed(grad_scores, transposed(q)));
}

class RowAttention final : public torch::autograd::Function<RowAttention> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const Plan& plan) {
    context->save_for_backward({q, k, v});
    save(*context, plan);
    return run_forward(plan, {q, k, v});
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_outputs) {
    const Plan plan = saved_plan(*context);
    const at::ScalarType dtype = grad_outputs[0].scalar_type();
    const variable_list qkv = in_float(context->get_saved_variables());
    const at::Tensor grad_out = grad_outputs[0].contiguous().to(at::kFloat);
    Gradients grads{at::empty_like(qkv[0]), at::empty_like(qkv[1]), at::empty_like(qkv[2])};
    for_each_row(plan, [&](std::int64_t row) {
      const Heads heads = plan.heads(row);
      at::Tensor p = room(heads, grad_out.options());
      probabilities_(p, plan.queries_of(qkv[0], row), plan.keys_of(qkv[1], row), heads,
                     plan.scale());
      backward_row_(grads, plan, row, qkv, grad_out, p);
    });
    return {grads.q.to(dtype), grads.k.to(dtype), grads.v.to(dtype), at::Tensor()};
  }

 private:
  static void save(AutogradContext& context, const Plan& plan) {
    context.saved_data["query_offsets"] = plan.query_offsets;
    context.saved_data["key_offsets"] = plan.key_offsets;
    context.saved_data["num_heads"] = plan.num_heads;
    context.saved_data["head_size"] = plan.head_size;
    context.saved_data["probability"] = plan.dropout.probability;
    context.saved_data["seed"] = static_cast<std::int64_t>(plan.dropout.seed);
  }
  static Plan saved_plan(AutogradContext& context) {
    auto& data = context.saved_data;
    return {.query_offsets = data["query_offsets"].toIntVector(),
            .key_offsets = data["key_offsets"].toIntVector(),
            .num_heads = data["num_heads"].toInt(),
            .head_size = data["head_size"].toInt(),
            .dropout = {.probability = data["probability"].toDouble(),
                        .seed = static_cast<std::uint64_t>(data["seed"].toInt())}};
  }
};

}  // namespace

bool can_attend_by_rows(const at::Tensor& q) {
  static const bool works = kernels_work();
  return works && q.is_cpu() && (q.scalar_type() == at::kFloat || q.scalar_type() == at::kBFloat16);
}

at::Tensor attention_by_rows(const AttentionInput& input, const Packing& packing) {
  core::require(can_attend_by_rows(input.q), "attention_by_rows: not possible here");
  Plan plan{.query_offsets = packing.offsets,
            .key_offsets = packing.offsets,
            .num_heads = input.num_heads,
            .head_size = input.q.size(1) / input.num_heads,
            .dropout = input.dropout};
  if (input.q.size(0) == packing.rows()) {
    for (std::size_t r = 0; r < plan.query_offsets.size(); ++r) {
      plan.query_offsets[r] = static_cast<std::int64_t>(r);
    }
  }
  const at::Tensor q = input.q.contiguous();
  const at::Tensor k = input.k.contiguous();
  const at::Tensor v = input.v.contiguous();
  const bool differentiates =
      at::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad());
  return differentiates ? RowAttention::apply(q, k, v, plan) : run_forward(plan, {q, k, v});
}

}  // namespace drystone::models
