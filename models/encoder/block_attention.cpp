// causal_attention_by_blocks: blocks of queries against the keys that they may see. Probabilities
// are made again in the backward pass.

#include <algorithm>
#include <limits>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_softmax_backward_data.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/check.h"
#include "core/seed.h"
#include "models/attention.h"
#include "models/decoder/causal_attention.h"
#include "models/small_product.h"

namespace drystone::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::int64_t kBlock = 64;  ///< queries
/// Heads share a call of the elementwise kernels until it has about this many elements.
constexpr std::int64_t kChunkElements = 1 << 15;

/// Queries [begin, end) of a row and the keys [first_key, end_key) that any of them sees.
struct Block {
  std::int64_t begin, end;
  std::int64_t first_key, end_key;
  std::int64_t place;       ///< of `begin` among the row's tokens
  std::int64_t first_pair;  ///< how many pairs of all heads are before it

  std::int64_t queries() const { return end - begin; }
  std::int64_t keys() const { return end_key - first_key; }
  std::int64_t pairs() const { return queries() * keys(); }
};

struct Row {
  std::int64_t query, num_queries;
  std::int64_t key, num_keys;
  std::vector<Block> blocks;
};

/// KV heads [first, first + count) of one row, with all their query heads: what one thread does.
struct Unit {
  std::size_t row;
  std::int64_t first, count;
};

struct Plan {
  CausalSpec spec;
  Dropout dropout;
  std::vector<Row> rows;
  std::vector<Unit> units;
  std::int64_t num_pairs = 0;  ///< of all heads

  std::int64_t group() const { return spec.num_heads / spec.num_kv_heads; }
  std::int64_t width() const { return spec.num_heads * spec.head_size; }

  void add_row(std::int64_t query, std::int64_t num_queries, std::int64_t key,
               std::int64_t num_keys) {
    Row row{query, num_queries, key, num_keys, {}};
    const std::int64_t before = num_keys - num_queries;  // the queries are the row's last tokens
    std::int64_t most_pairs = 1;
    for (std::int64_t begin = 0; begin < num_queries; begin += kBlock) {
      const std::int64_t end = std::min(begin + kBlock, num_queries);
      const std::int64_t place = before + begin;
      const std::int64_t first =
          spec.window > 0 ? std::max<std::int64_t>(place - spec.window + 1, 0) : 0;
      row.blocks.push_back({begin, end, first, before + end, place, num_pairs});
      num_pairs += spec.num_heads * row.blocks.back().pairs();
      most_pairs = std::max(most_pairs, row.blocks.back().pairs());
    }
    const std::int64_t count =
        std::clamp<std::int64_t>(kChunkElements / (most_pairs * group()), 1, spec.num_kv_heads);
    for (std::int64_t head = 0; head < spec.num_kv_heads; head += count) {
      units.push_back({rows.size(), head, std::min(count, spec.num_kv_heads - head)});
    }
    rows.push_back(std::move(row));
  }
};

Plan make_plan(const CausalSpec& spec, const Dropout& dropout,
               const std::vector<std::int64_t>& offsets, bool last_only) {
  Plan plan{.spec = spec, .dropout = dropout};
  for (std::size_t row = 0; row + 1 < offsets.size(); ++row) {
    const std::int64_t length = offsets[row + 1] - offsets[row];
    plan.add_row(last_only ? static_cast<std::int64_t>(row) : offsets[row], last_only ? 1 : length,
                 offsets[row], length);
  }
  return plan;
}

/// [tokens, heads, size] as rows of floats.
struct Matrix {
  const float* data;
  std::int64_t stride;  ///< from token to token

  explicit Matrix(const at::Tensor& x) : data(x.const_data_ptr<float>()), stride(x.stride(0)) {}
  const float* at(std::int64_t token, std::int64_t column) const {
    return data + token * stride + column;
  }
};

/// Tokens [begin, begin + count) and heads [head, head + heads) as [heads · size, count].
at::Tensor transposed(const at::Tensor& x, std::int64_t begin, std::int64_t count,
                      std::int64_t head, std::int64_t heads) {
  return x.narrow(0, begin, count).narrow(1, head, heads).flatten(1).t().contiguous();
}

/// Adds −∞ where a query of the block must not look.
void hide_(at::Tensor& scores, const Block& block, const CausalSpec& spec) {
  constexpr float kHidden = -std::numeric_limits<float>::infinity();
  const std::int64_t n = block.queries();
  if (n > 1) {  // the last n keys are the queries' own places
    at::Tensor future = at::full({n, n}, kHidden, scores.options()).triu_(1);
    scores.narrow(2, block.keys() - n, n).add_(future);
  }
  // Key c lies outside query i's window when c <= i + past.
  const std::int64_t past = block.place - spec.window - block.first_key;
  if (spec.window > 0 && n - 1 + past >= 0) {
    const std::int64_t width = std::min(n + past, block.keys());
    at::Tensor outside = at::full({n, width}, kHidden, scores.options()).tril_(past);
    scores.narrow(2, 0, width).add_(outside);
  }
}

/// One unit's work on one block.
class BlockWork {
 public:
  BlockWork(const Plan& plan, const Unit& unit, const Block& block)
      : plan_(plan), row_(plan.rows[unit.row]), unit_(unit), block_(block) {}

  std::int64_t heads() const { return unit_.count * plan_.group(); }

  /// Memory for [heads, queries, keys].
  at::Tensor room(const at::TensorOptions& options) const {
    return at::empty({heads(), block_.queries(), block_.keys()}, options);
  }
  /// out [heads, queries, keys] = x · yᵀ from y_t [kv heads of the unit · size, all keys].
  void pair_(at::Tensor& out, const Matrix& x, const at::Tensor& y_t) const {
    const std::int64_t size = plan_.spec.head_size;
    const SmallProduct product{block_.queries(), block_.keys(), size,
                               x.stride,         row_.num_keys, block_.keys()};
    for (std::int64_t h = 0; h < heads(); ++h) {
      product.run(
          x.at(row_.query + block_.begin, (first_head() + h) * size),
          y_t.const_data_ptr<float>() + h / plan_.group() * size * row_.num_keys + block_.first_key,
          out.mutable_data_ptr<float>() + h * block_.pairs());
    }
  }
  /// out [queries of the block, …] = pairs · y.
  void combine_(at::Tensor& out, const at::Tensor& pairs, const Matrix& y) const {
    const std::int64_t size = plan_.spec.head_size;
    const SmallProduct product{block_.queries(), size,     block_.keys(),
                               block_.keys(),    y.stride, plan_.width()};
    float* const rows = out.mutable_data_ptr<float>() + (row_.query + block_.begin) * plan_.width();
    for (std::int64_t h = 0; h < heads(); ++h) {
      product.run(pairs.const_data_ptr<float>() + h * block_.pairs(),
                  y.at(row_.key + block_.first_key, (unit_.first + h / plan_.group()) * size),
                  rows + (first_head() + h) * size);
    }
  }
  /// out_t [kv heads of the unit · size, all keys] += x_t · pairs, summed over each group.
  /// @param x_t  [heads of the unit · size, all queries]
  void gather_(at::Tensor& out_t, const at::Tensor& x_t, const at::Tensor& pairs) const {
    const std::int64_t size = plan_.spec.head_size;
    const SmallProduct product{size,          block_.keys(), block_.queries(), row_.num_queries,
                               block_.keys(), row_.num_keys, /*adds=*/true};
    for (std::int64_t h = 0; h < heads(); ++h) {
      product.run(x_t.const_data_ptr<float>() + h * size * row_.num_queries + block_.begin,
                  pairs.const_data_ptr<float>() + h * block_.pairs(),
                  out_t.mutable_data_ptr<float>() + h / plan_.group() * size * row_.num_keys +
                      block_.first_key);
    }
  }
  /// Scores in `p` → probabilities, in place. @return  tanh of the capped scores, else undefined
  at::Tensor normalise_(at::Tensor& p) const {
    at::Tensor bent;
    if (plan_.spec.softcap > 0.0) {
      bent = p.div_(plan_.spec.softcap).tanh();
      p = bent * plan_.spec.softcap;
    }
    hide_(p, block_, plan_.spec);
    at::softmax_out(p, p, -1);
    return bent;
  }
  at::Tensor mask_like(const at::Tensor& p) const {
    core::SplitMix64 mix(plan_.dropout.seed + static_cast<std::uint64_t>(block_.first_pair) +
                         static_cast<std::uint64_t>(first_head()) * 0x9E3779B97F4A7C15ULL);
    return dropout_mask(p, {.probability = plan_.dropout.probability, .seed = mix()});
  }

 private:
  std::int64_t first_head() const { return unit_.first * plan_.group(); }

  const Plan& plan_;
  const Row& row_;
  const Unit& unit_;
  const Block& block_;
};

template <typename Body>
void for_each_unit(const Plan& plan, const Body& body) {
  const auto count = static_cast<std::int64_t>(plan.units.size());
  at::parallel_for(0, count, /*grain_size=*/1, [&](std::int64_t begin, std::int64_t end) {
    const at::NoGradGuard no_grad;
    for (std::int64_t i = begin; i < end; ++i) body(plan.units[static_cast<std::size_t>(i)]);
  });
}

at::Tensor run_forward(const Plan& plan, const variable_list& inputs) {
  const at::NoGradGuard no_grad;
  const variable_list qkv = in_float(inputs);
  at::Tensor out = at::empty({qkv[0].size(0), plan.width()}, qkv[0].options());
  const Matrix q(qkv[0]);
  const Matrix v(qkv[2]);
  for_each_unit(plan, [&](const Unit& unit) {
    const Row& row = plan.rows[unit.row];
    const at::Tensor k_t =
        transposed(qkv[1], row.key, row.num_keys, unit.first, unit.count).mul_(plan.spec.scale);
    for (const Block& block : row.blocks) {
      const BlockWork work(plan, unit, block);
      at::Tensor p = work.room(out.options());
      work.pair_(p, q, k_t);
      work.normalise_(p);
      work.combine_(out, plan.dropout.active() ? p * work.mask_like(p) : p, v);
    }
  });
  return out.to(inputs[0].scalar_type());
}

struct Gradients {
  at::Tensor q, k, v;
};

/// Writes one unit's part of the gradients.
void backward_unit(Gradients& grads, const Plan& plan, const Unit& unit, const variable_list& qkv,
                   const at::Tensor& grad_out) {
  const Row& row = plan.rows[unit.row];
  const std::int64_t group = plan.group();
  const auto of_keys = [&](const at::Tensor& x) {
    return transposed(x, row.key, row.num_keys, unit.first, unit.count);
  };
  const auto of_queries = [&](const at::Tensor& x) {
    return transposed(x, row.query, row.num_queries, unit.first * group, unit.count * group);
  };
  const at::Tensor k_t = of_keys(qkv[1]).mul_(plan.spec.scale);
  const at::Tensor v_t = of_keys(qkv[2]).mul_(plan.spec.scale);  // the scores' scale, early
  const at::Tensor q_t = of_queries(qkv[0]);
  const at::Tensor grad_t = of_queries(grad_out.view({grad_out.size(0), -1, plan.spec.head_size}));
  at::Tensor grad_k_t = at::zeros(k_t.sizes(), k_t.options());
  at::Tensor grad_v_t = at::zeros(v_t.sizes(), v_t.options());
  for (const Block& block : row.blocks) {
    const BlockWork work(plan, unit, block);
    at::Tensor p = work.room(grad_out.options());
    work.pair_(p, Matrix(qkv[0]), k_t);
    const at::Tensor bent = work.normalise_(p);
    const at::Tensor mask = plan.dropout.active() ? work.mask_like(p) : at::Tensor();
    work.gather_(grad_v_t, grad_t, mask.defined() ? p * mask : p);
    at::Tensor grad_p = work.room(p.options());
    work.pair_(grad_p, Matrix(grad_out), v_t);
    if (mask.defined()) grad_p.mul_(mask);
    at::Tensor grad_scores = at::_softmax_backward_data(grad_p, p, -1, at::kFloat);
    if (bent.defined()) grad_scores.addcmul_(grad_scores * bent, bent, -1);
    work.combine_(grads.q, grad_scores, Matrix(qkv[1]));
    work.gather_(grad_k_t, q_t, grad_scores);
  }
  const auto write = [&](at::Tensor& out, const at::Tensor& part_t) {
    out.narrow(0, row.key, row.num_keys)
        .narrow(1, unit.first * plan.spec.head_size, part_t.size(0))
        .copy_(part_t.t());
  };
  write(grads.k, grad_k_t);
  write(grads.v, grad_v_t);
}

class BlockAttention final : public torch::autograd::Function<BlockAttention> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const std::vector<std::int64_t>& offsets,
                            const CausalSpec& spec, const Dropout& dropout) {
    const Plan plan = make_plan(spec, dropout, offsets, q.size(0) != k.size(0));
    context->save_for_backward({q, k, v});
    save(*context, offsets, spec, dropout);
    return run_forward(plan, {q, k, v});
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_outputs) {
    const variable_list saved = context->get_saved_variables();
    const Plan plan = saved_plan(*context, saved[0].size(0) != saved[1].size(0));
    const variable_list qkv = in_float(saved);
    const at::Tensor grad_out = grad_outputs[0].contiguous().to(at::kFloat);
    const auto like = [&](const at::Tensor& x) {
      return at::empty({x.size(0), x.size(1) * x.size(2)}, x.options());
    };
    Gradients grads{like(qkv[0]), like(qkv[1]), like(qkv[2])};
    for_each_unit(plan, [&](const Unit& unit) { backward_unit(grads, plan, unit, qkv, grad_out); });
    const auto result = [&](const at::Tensor& grad, const at::Tensor& x) {
      return grad.view(x.sizes()).to(x.scalar_type());
    };
    return {result(grads.q, saved[0]),
            result(grads.k, saved[1]),
            result(grads.v, saved[2]),
            at::Tensor(),
            at::Tensor(),
            at::Tensor()};
  }

 private:
  static void save(AutogradContext& context, const std::vector<std::int64_t>& offsets,
                   const CausalSpec& spec, const Dropout& dropout) {
    auto& data = context.saved_data;
    data["offsets"] = offsets;
    data["sizes"] =
        std::vector<std::int64_t>{spec.num_heads, spec.num_kv_heads, spec.head_size, spec.window};
    data["scale"] = spec.scale;
    data["softcap"] = spec.softcap;
    data["probability"] = dropout.probability;
    data["seed"] = static_cast<std::int64_t>(dropout.seed);
  }
  static Plan saved_plan(AutogradContext& context, bool last_only) {
    auto& data = context.saved_data;
    const std::vector<std::int64_t> sizes = data["sizes"].toIntVector();
    return make_plan({.num_heads = sizes[0],
                      .num_kv_heads = sizes[1],
                      .head_size = sizes[2],
                      .scale = data["scale"].toDouble(),
                      .softcap = data["softcap"].toDouble(),
                      .window = sizes[3]},
                     {.probability = data["probability"].toDouble(),
                      .seed = static_cast<std::uint64_t>(data["seed"].toInt())},
                     data["offsets"].toIntVector(), last_only);
  }
};

/// Heads contiguous within a token, as the kernels read them.
at::Tensor dense_heads(const at::Tensor& x) {
  return x.stride(2) == 1 && x.stride(1) == x.size(2) ? x : x.contiguous();
}

}  // namespace

at::Tensor causal_attention_by_blocks(const CausalInput& input, const Packing& packing) {
  core::require(can_attend_by_rows(input.q), "causal_attention_by_blocks: not possible here");
  const at::Tensor q = dense_heads(input.q);
  const at::Tensor k = dense_heads(input.k);
  const at::Tensor v = dense_heads(input.v);
  const bool differentiates =
      at::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad());
  if (differentiates) {
    return BlockAttention::apply(q, k, v, packing.offsets, input.spec, input.dropout);
  }
  const Plan plan =
      make_plan(input.spec, input.dropout, packing.offsets, q.size(0) != packing.num_tokens());
  return run_forward(plan, {q, k, v});
}

}  // namespace drystone::models
