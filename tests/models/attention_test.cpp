#include "models/attention.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tensors/random.h"
#include "tests/models/bert_oracle.h"

using namespace drystone;
using models::AttentionInput;
using models::Packing;

namespace {

constexpr double kFloatTolerance = 2e-6;  // sums of at most 70 terms near 1

/// A packed batch of rows of these lengths.
Packing packing_of(const std::vector<std::int64_t>& lengths) {
  const std::int64_t width = *std::max_element(lengths.begin(), lengths.end());
  const auto rows = static_cast<std::int64_t>(lengths.size());
  const at::Tensor ends = at::tensor(lengths).unsqueeze(1);
  const at::Tensor mask = at::arange(width).unsqueeze(0).lt(ends);
  return models::pack({at::zeros({rows, width}, at::kLong), mask, {}});
}

at::Tensor leaf(const std::string& name, std::int64_t rows, std::int64_t width,
                at::ScalarType dtype) {
  return tensors::random_normal({.seed = 1, .purpose = name}, {rows, width})
      .to(dtype)
      .requires_grad_(true);
}

AttentionInput input_of(const Packing& packing, bool first_only, at::ScalarType dtype = at::kFloat,
                        std::int64_t num_heads = 3, std::int64_t hidden = 24) {
  const std::int64_t tokens = packing.num_tokens();
  return {.q = leaf("q", first_only ? packing.rows() : tokens, hidden, dtype),
          .k = leaf("k", tokens, hidden, dtype),
          .v = leaf("v", tokens, hidden, dtype),
          .num_heads = num_heads,
          .dropout = {}};
}

/// out and the gradients by q, k and v of a fixed weighting of it.
std::vector<at::Tensor> run(at::Tensor (*attend)(const AttentionInput&, const Packing&),
                            const AttentionInput& input, const Packing& packing) {
  for (const at::Tensor& tensor : {input.q, input.k, input.v}) tensor.mutable_grad().reset();
  const at::Tensor out = attend(input, packing);
  const at::Tensor weights = tensors::random_normal({.seed = 2, .purpose = "grad"}, out.sizes())
                                 .to(at::kBFloat16)  // no rounding in any type
                                 .to(out.scalar_type());
  (out * weights).sum().backward();
  return {out.detach(), input.q.grad().clone(), input.k.grad().clone(), input.v.grad().clone()};
}

/// The definition in float64: one row and head at a time.
at::Tensor definition(const AttentionInput& input, const Packing& packing) {
  const bool first_only = input.q.size(0) == packing.rows();
  const std::int64_t size = input.q.size(1) / input.num_heads;
  at::Tensor out = at::zeros(input.q.sizes(), at::kDouble);
  for (std::int64_t row = 0; row < packing.rows(); ++row) {
    const auto r = static_cast<std::size_t>(row);
    const std::int64_t begin = packing.offsets[r];
    const std::int64_t end = packing.offsets[r + 1];
    const std::int64_t q_begin = first_only ? row : begin;
    const std::int64_t q_end = first_only ? row + 1 : end;
    for (std::int64_t head = 0; head < input.num_heads; ++head) {
      const auto part = [&](const at::Tensor& x, std::int64_t from, std::int64_t to) {
        return x.detach().to(at::kDouble).slice(0, from, to).narrow(1, head * size, size);
      };
      const at::Tensor scores = part(input.q, q_begin, q_end)
                                    .matmul(part(input.k, begin, end).t())
                                    .div(std::sqrt(static_cast<double>(size)));
      out.slice(0, q_begin, q_end)
          .narrow(1, head * size, size)
          .copy_(scores.softmax(-1).matmul(part(input.v, begin, end)));
    }
  }
  return out;
}

const std::vector<std::vector<std::int64_t>> kBatches = {{1}, {7}, {5, 1, 70, 33}, {16, 16, 16}};

}  // namespace

TEST_CASE("attention: both ways are the definition") {
  for (const auto& lengths : kBatches) {
    for (const bool first_only : {false, true}) {
      CAPTURE(lengths.size());
      CAPTURE(first_only);
      const Packing packing = packing_of(lengths);
      const AttentionInput input = input_of(packing, first_only);
      const at::Tensor expected = definition(input, packing);
      CHECK(test::distance(models::attention_padded(input, packing), expected) < kFloatTolerance);
      if (!models::can_attend_by_rows(input.q)) continue;
      CHECK(test::distance(models::attention_by_rows(input, packing), expected) < kFloatTolerance);
    }
  }
}

TEST_CASE("attention: gradients by rows are those of LibTorch's kernels") {
  for (const auto& lengths : kBatches) {
    for (const bool first_only : {false, true}) {
      CAPTURE(lengths.size());
      CAPTURE(first_only);
      const Packing packing = packing_of(lengths);
      const AttentionInput input = input_of(packing, first_only);
      if (!models::can_attend_by_rows(input.q)) return;
      AttentionInput precise = input_of(packing, first_only, at::kDouble);
      const auto rows = run(models::attention_by_rows, input, packing);
      const auto padded = run(models::attention_padded, precise, packing);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        CAPTURE(i);
        CHECK(test::distance(rows[i], padded[i]) < 5 * kFloatTolerance);
      }
    }
  }
}

TEST_CASE("attention by rows: bfloat16 is float32 between one rounding before and one behind") {
  for (const bool first_only : {false, true}) {
    const Packing packing = packing_of({4, 6, 33});
    const AttentionInput narrow = input_of(packing, first_only, at::kBFloat16);
    if (!models::can_attend_by_rows(narrow.q)) return;
    AttentionInput wide = narrow;
    for (auto* const x : {&wide.q, &wide.k, &wide.v}) {
      *x = x->detach().to(at::kFloat).requires_grad_(true);
    }
    const auto rows = run(models::attention_by_rows, narrow, packing);
    const auto expected = run(models::attention_by_rows, wide, packing);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      CHECK((rows[i].scalar_type() == at::kBFloat16));
      CHECK(at::equal(rows[i], expected[i].to(at::kBFloat16)));
    }
  }
}

TEST_CASE("attention by rows: a long row") {
  const Packing packing = packing_of({1040});
  const AttentionInput input = input_of(packing, false, at::kFloat, 16, 32);
  if (!models::can_attend_by_rows(input.q)) return;
  const auto rows = run(models::attention_by_rows, input, packing);
  const auto padded = run(models::attention_padded, input, packing);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    CHECK(test::distance(rows[i], padded[i]) < 5 * kFloatTolerance);
  }
}

TEST_CASE("attention by rows: dropout's gradients are finite differences'") {
  const Packing packing = packing_of({4, 6});
  AttentionInput input = input_of(packing, false);
  if (!models::can_attend_by_rows(input.q)) return;
  input.dropout = {.probability = 0.3, .seed = 9};
  const auto exact = run(models::attention_by_rows, input, packing);
  const at::Tensor weights =
      tensors::random_normal({.seed = 2, .purpose = "grad"}, exact[0].sizes());
  const auto value = [&](const AttentionInput& at) {
    return (models::attention_by_rows(at, packing) * weights).sum().to(at::kDouble).item<double>();
  };
  constexpr double kStep = 1e-2;
  for (const std::int64_t place : {0, 30, 77, 191}) {
    CAPTURE(place);
    at::Tensor AttentionInput::* const fields[] = {&AttentionInput::q, &AttentionInput::k,
                                                   &AttentionInput::v};
    for (std::size_t i = 0; i < 3; ++i) {
      const auto shifted = [&](double by) {
        AttentionInput moved = input;
        moved.*fields[i] = (input.*fields[i]).detach().clone();
        (moved.*fields[i]).view(-1)[place] += by;
        return value(moved);
      };
      const double slope = (shifted(kStep) - shifted(-kStep)) / (2 * kStep);
      CHECK(exact[i + 1].view(-1)[place].item<double>() == doctest::Approx(slope).epsilon(0.02));
    }
  }
}

TEST_CASE("attention: dropout scales what is left, and its seed decides the mask") {
  const Packing packing = packing_of({40, 40});
  AttentionInput input = input_of(packing, false);
  input.v =
      at::ones_like(input.v);  // every output is then the sum of the probabilities that are left
  input.dropout = {.probability = 0.25, .seed = 4};
  for (auto* const attend : {models::attention_padded, models::attention}) {
    const at::Tensor out = attend(input, packing);
    CHECK(out.mean().item<double>() == doctest::Approx(1.0).epsilon(0.05));
    CHECK(out.std().item<double>() > 0.01);
    CHECK(at::equal(attend(input, packing), out));
    AttentionInput other = input;
    other.dropout.seed = 5;
    CHECK_FALSE(at::equal(attend(other, packing), out));
  }
}
