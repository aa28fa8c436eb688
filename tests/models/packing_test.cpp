#include "models/packing.h"

#include <vector>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"

using namespace drystone;
using models::Packing;

namespace {

at::Tensor longs(std::vector<std::int64_t> values) { return at::tensor(values, at::kLong); }

/// Rows of 2, 4 and 1 tokens.
models::Batch padded_batch() {
  return {.input_ids = longs({5, 6, 0, 0, 1, 2, 3, 4, 9, 0, 0, 0}).view({3, 4}),
          .pad_mask = longs({1, 1, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0}).view({3, 4}).to(at::kBool),
          .labels = {}};
}

}  // namespace

TEST_CASE("pack: keeps tokens only and says where rows are") {
  const Packing packing = models::pack(padded_batch());
  CHECK(packing.rows() == 3);
  CHECK(packing.num_tokens() == 7);
  CHECK(packing.offsets == std::vector<std::int64_t>{0, 2, 6, 7});
  CHECK(at::equal(packing.ids, longs({5, 6, 1, 2, 3, 4, 9})));
  CHECK(at::equal(packing.positions, longs({0, 1, 0, 1, 2, 3, 0})));
  CHECK(at::equal(packing.first, longs({0, 2, 6})));
}

TEST_CASE("pack: pad and unpad are each other's reverse, zeros at padding, differentiable") {
  const Packing packing = models::pack(padded_batch());
  const at::Tensor x = at::arange(1, 15, at::kFloat).view({7, 2}).requires_grad_(true);
  const at::Tensor padded = packing.pad(x);
  CHECK(padded.size(1) == 4);
  CHECK(padded.select(0, 0).slice(0, 2).abs().sum().item<double>() == 0.0);
  CHECK(at::equal(packing.unpad(padded), x));
  packing.unpad(padded * 2).sum().backward();
  CHECK(at::equal(x.grad(), at::full({7, 2}, 2.0)));
}

TEST_CASE("pack: without padding there is nothing to look up") {
  models::Batch batch = padded_batch();
  for (const bool has_mask : {false, true}) {
    batch.pad_mask = has_mask ? at::ones({3, 4}, at::kBool) : at::Tensor();
    const Packing packing = models::pack(batch);
    CHECK_FALSE(packing.index.defined());
    CHECK(packing.num_tokens() == 12);
    CHECK(at::equal(packing.ids, batch.input_ids.view(-1)));
    const at::Tensor x = at::zeros({12, 2});
    CHECK(packing.pad(x).is_alias_of(x));
  }
}

TEST_CASE("pack: padding on the left") {
  const models::Batch batch{.input_ids = longs({0, 0, 5, 6, 1, 2, 3, 4}).view({2, 4}),
                            .pad_mask = longs({0, 0, 1, 1, 1, 1, 1, 1}).view({2, 4}).to(at::kBool)};
  const Packing packing = models::pack(batch);
  CHECK(packing.offsets == std::vector<std::int64_t>{0, 2, 6});
  CHECK(at::equal(packing.ids, longs({5, 6, 1, 2, 3, 4})));
  CHECK(at::equal(packing.positions, longs({0, 1, 0, 1, 2, 3})));
  CHECK(at::equal(packing.last, longs({1, 5})));
  CHECK(at::equal(packing.source, longs({2, 3, 4, 5, 6, 7})));
  CHECK(at::equal(packing.find(longs({3, 4})), longs({1, 2})));
  const at::Tensor restored = packing.restore(packing.ids.unsqueeze(1), {2, 4});
  CHECK(at::equal(restored.squeeze(2), batch.input_ids));
}

TEST_CASE("pack: several samples in one row") {
  const models::Batch batch{
      .input_ids = longs({5, 6, 7, 8, 9, 1, 2, 3, 0, 0}).view({2, 5}),
      .pad_mask = longs({1, 1, 1, 1, 1, 1, 1, 1, 0, 0}).view({2, 5}).to(at::kBool),
      .labels = {},
      .segments = longs({0, 0, 0, 1, 1, 0, 1, 1, 1, 1}).view({2, 5})};
  const Packing packing = models::pack(batch);
  CHECK(packing.offsets == std::vector<std::int64_t>{0, 3, 5, 6, 8});
  CHECK(packing.padded_tokens == 3);
  CHECK(at::equal(packing.positions, longs({0, 1, 2, 0, 1, 0, 0, 1})));
  CHECK(at::equal(packing.last, longs({2, 4, 5, 7})));
  const at::Tensor x = packing.ids.unsqueeze(1);
  CHECK(at::equal(packing.pad(x).squeeze(2),
                  longs({5, 6, 7, 8, 9, 0, 1, 0, 0, 2, 3, 0}).view({4, 3})));
  CHECK(at::equal(packing.unpad(packing.pad(x)), x));
  CHECK(at::equal(packing.restore(x, {2, 5}).squeeze(2), batch.input_ids));
  models::Batch wrong = batch;
  wrong.segments = longs({0, 0, 0, 2, 2, 0, 1, 1, 1, 1}).view({2, 5});
  CHECK_THROWS_AS(models::pack(wrong), core::InvalidArgument);
  wrong.segments = longs({1, 1, 1, 2, 2, 0, 1, 1, 1, 1}).view({2, 5});
  CHECK_THROWS_AS(models::pack(wrong), core::InvalidArgument);
}

TEST_CASE("pack: refuses what it cannot pack") {
  const auto mask = [](std::vector<std::int64_t> values) {
    models::Batch batch = padded_batch();
    batch.pad_mask = longs(std::move(values)).view({3, 4}).to(at::kBool);
    return batch;
  };
  CHECK_THROWS_AS(models::pack(mask({0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0})), core::InvalidArgument);
  CHECK_THROWS_AS(models::pack(mask({1, 0, 1, 0, 1, 1, 1, 1, 1, 0, 0, 0})), core::InvalidArgument);
  CHECK_THROWS_AS(models::pack(mask({1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0})), core::InvalidArgument);
  models::Batch batch = padded_batch();
  batch.pad_mask = at::ones({3, 3}, at::kBool);
  CHECK_THROWS_AS(models::pack(batch), core::InvalidArgument);
  batch = padded_batch();
  batch.input_ids = batch.input_ids.to(at::kInt);
  CHECK_THROWS_AS(models::pack(batch), core::InvalidArgument);
}
