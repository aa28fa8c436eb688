// The blocks against the definition in float64, forward and backward.

#include "models/decoder/causal_attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <doctest/doctest.h>

#include "models/attention.h"
#include "tensors/random.h"

using namespace drystone;
using models::CausalInput;
using models::CausalSpec;

namespace {

constexpr double kTolerance = 2e-6;

models::Packing packing_of(const std::vector<std::int64_t>& lengths) {
  const std::int64_t width = *std::max_element(lengths.begin(), lengths.end());
  const auto rows = static_cast<std::int64_t>(lengths.size());
  at::Tensor mask = at::zeros({rows, width}, at::kBool);
  for (std::int64_t r = 0; r < rows; ++r) {
    mask.select(0, r).narrow(0, 0, lengths[static_cast<std::size_t>(r)]).fill_(true);
  }
  return models::pack({.input_ids = at::ones({rows, width}, at::kLong), .pad_mask = mask});
}

at::Tensor random(const std::string& name, at::IntArrayRef shape) {
  return tensors::random_normal({.seed = 5, .purpose = name}, shape);
}

CausalInput random_input(const CausalSpec& spec, std::int64_t queries, std::int64_t tokens) {
  return {.q = random("q", {queries, spec.num_heads, spec.head_size}),
          .k = random("k", {tokens, spec.num_kv_heads, spec.head_size}),
          .v = random("v", {tokens, spec.num_kv_heads, spec.head_size}),
          .spec = spec};
}

/// One row and head after the other, by definition.
at::Tensor by_definition(const CausalInput& input, const models::Packing& packing) {
  const CausalSpec& spec = input.spec;
  const bool last_only = input.q.size(0) != packing.num_tokens();
  std::vector<at::Tensor> rows;
  for (std::int64_t row = 0; row < packing.rows(); ++row) {
    const std::int64_t begin = packing.offsets[static_cast<std::size_t>(row)];
    const std::int64_t length = packing.length(row);
    const std::int64_t queries = last_only ? 1 : length;
    std::vector<at::Tensor> heads;
    for (std::int64_t head = 0; head < spec.num_heads; ++head) {
      const std::int64_t kv = head * spec.num_kv_heads / spec.num_heads;
      const at::Tensor q = input.q.narrow(0, last_only ? row : begin, queries).select(1, head);
      const at::Tensor k = input.k.narrow(0, begin, length).select(1, kv);
      const at::Tensor v = input.v.narrow(0, begin, length).select(1, kv);
      at::Tensor scores = q.matmul(k.t()) * spec.scale;
      if (spec.softcap > 0.0) scores = (scores / spec.softcap).tanh() * spec.softcap;
      const std::int64_t before = length - queries;
      at::Tensor hidden = at::ones({queries, length}, at::kBool).triu(before + 1);
      if (spec.window > 0) {
        hidden = hidden | at::ones({queries, length}, at::kBool).tril(before - spec.window);
      }
      heads.push_back(scores.masked_fill(hidden, -INFINITY).softmax(-1).matmul(v));
    }
    rows.push_back(at::cat(heads, 1));
  }
  return at::cat(rows);
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

CausalInput in_double(const CausalInput& input) {
  CausalInput wide = input;
  for (at::Tensor* const x : {&wide.q, &wide.k, &wide.v}) *x = x->detach().to(at::kDouble);
  return wide;
}

template <typename Attend>
std::vector<at::Tensor> run(CausalInput input, const models::Packing& packing,
                            const Attend& attend) {
  for (at::Tensor* const x : {&input.q, &input.k, &input.v}) {
    *x = x->detach().clone().requires_grad_(true);
  }
  const at::Tensor out = attend(input, packing);
  const at::Tensor weights = random("weights", {out.size(0), out.size(1)})
                                 .to(at::kBFloat16)  // no rounding in any type
                                 .to(out.scalar_type());
  (out * weights).sum().backward();
  return {out.detach(), input.q.grad(), input.k.grad(), input.v.grad()};
}

void check(const CausalSpec& spec, const std::vector<std::int64_t>& lengths, bool last_only) {
  const models::Packing packing = packing_of(lengths);
  const CausalInput input =
      random_input(spec, last_only ? packing.rows() : packing.num_tokens(), packing.num_tokens());
  const auto wanted = run(in_double(input), packing, by_definition);
  const auto compare = [&](const std::vector<at::Tensor>& actual, double tolerance) {
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      CAPTURE(i);
      CHECK(distance(actual[i], wanted[i]) <
            tolerance * std::max(1.0, wanted[i].abs().max().item<double>()));
    }
  };
  compare(run(in_double(input), packing, models::causal_attention_padded), 1e-12);
  compare(run(input, packing, models::causal_attention_padded), kTolerance);
  if (models::can_attend_by_rows(input.q)) {
    compare(run(input, packing, models::causal_attention_by_blocks), kTolerance);
  }
}

}  // namespace

TEST_CASE("causal_attention: blocks and padding are the definition, forward and backward") {
  const std::vector<CausalSpec> specs = {
      {.num_heads = 3, .num_kv_heads = 3, .head_size = 8, .scale = 0.3},
      {.num_heads = 4, .num_kv_heads = 2, .head_size = 8, .scale = 0.35},
      {.num_heads = 4, .num_kv_heads = 1, .head_size = 6, .scale = 0.4, .window = 5},
      {.num_heads = 2, .num_kv_heads = 2, .head_size = 8, .scale = 0.5, .window = 70},
      {.num_heads = 4, .num_kv_heads = 2, .head_size = 8, .scale = 1.1, .softcap = 2.0},
      {.num_heads = 2, .num_kv_heads = 1, .head_size = 4, .softcap = 1.5, .window = 33}};
  for (const CausalSpec& spec : specs) {
    for (const std::vector<std::int64_t>& lengths :
         std::vector<std::vector<std::int64_t>>{{1}, {7, 3}, {64, 65, 1}, {150, 40, 129}}) {
      for (const bool last_only : {false, true}) {
        CAPTURE(spec.window);
        CAPTURE(spec.softcap);
        CAPTURE(lengths.back());
        CAPTURE(last_only);
        check(spec, lengths, last_only);
      }
    }
  }
}

TEST_CASE("causal_attention: bfloat16 is float32 between one rounding before and one behind") {
  const CausalSpec spec{.num_heads = 4, .num_kv_heads = 2, .head_size = 8, .scale = 0.3};
  const models::Packing packing = packing_of({70, 9});
  CausalInput narrow = random_input(spec, packing.num_tokens(), packing.num_tokens());
  for (at::Tensor* const x : {&narrow.q, &narrow.k, &narrow.v}) *x = x->to(at::kBFloat16);
  if (!models::can_attend_by_rows(narrow.q)) return;
  CausalInput wide = narrow;
  for (at::Tensor* const x : {&wide.q, &wide.k, &wide.v}) *x = x->to(at::kFloat);
  const auto blocks = run(narrow, packing, models::causal_attention_by_blocks);
  const auto expected = run(wide, packing, models::causal_attention_by_blocks);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    CHECK((blocks[i].scalar_type() == at::kBFloat16));
    CHECK(at::equal(blocks[i], expected[i].to(at::kBFloat16)));
  }
}

TEST_CASE("causal_attention: tokens at a stride, as a fused projection gives them") {
  const CausalSpec spec{.num_heads = 4, .num_kv_heads = 2, .head_size = 8, .scale = 0.3};
  const models::Packing packing = packing_of({70, 9});
  const at::Tensor fused = random("fused", {79, 64});
  const auto parts = fused.split_with_sizes({32, 16, 16}, 1);
  CausalInput input{.q = parts[0].view({79, 4, 8}),
                    .k = parts[1].view({79, 2, 8}),
                    .v = parts[2].view({79, 2, 8}),
                    .spec = spec};
  const at::Tensor strided = models::causal_attention(input, packing);
  for (at::Tensor* const x : {&input.q, &input.k, &input.v}) *x = x->contiguous();
  CHECK(at::equal(strided, models::causal_attention(input, packing)));
}

TEST_CASE("causal_attention: dropout keeps the expectation, and its seed decides the mask") {
  const CausalSpec spec{.num_heads = 2, .num_kv_heads = 1, .head_size = 4, .scale = 0.5};
  const models::Packing packing = packing_of({70, 5});
  CausalInput input = random_input(spec, 75, 75);
  const at::Tensor plain = models::causal_attention(input, packing);
  at::Tensor sum = at::zeros_like(plain);
  for (std::uint64_t seed = 0; seed < 600; ++seed) {
    input.dropout = {.probability = 0.2, .seed = seed};
    sum += models::causal_attention(input, packing);
  }
  CHECK(distance(sum / 600.0, plain) < 0.25);
  input.dropout = {.probability = 0.2, .seed = 3};
  const at::Tensor first = models::causal_attention(input, packing);
  CHECK(at::equal(first, models::causal_attention(input, packing)));
  // The backward pass uses the forward's mask: a finite difference agrees.
  const auto grads = run(input, packing, models::causal_attention);
  const at::Tensor step = random("step", input.v.sizes()) * 1e-2;
  const at::Tensor weights = random("weights", {75, 8});
  const auto value = [&](double sign) {
    CausalInput moved = input;
    moved.v = input.v + step * sign;
    return (models::causal_attention(moved, packing).to(at::kDouble) * weights).sum();
  };
  const double slope = ((value(1.0) - value(-1.0)) / 2.0).item<double>();
  CHECK(slope == doctest::Approx((grads[3] * step).sum().item<double>()).epsilon(1e-3));
}
