#include "models/packing.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/zeros.h>
#include <c10/util/accumulate.h>

#include "core/check.h"
#include "models/device.h"

namespace drystone::models {
namespace {

at::Tensor to_tensor(const std::vector<std::int64_t>& values) {
  // from_blob wants a mutable pointer; the clone is made before anybody could write.
  auto* const data = const_cast<std::int64_t*>(values.data());
  return at::from_blob(data, {static_cast<std::int64_t>(values.size())}, at::kLong).clone();
}

/// Consecutive tokens of the flattened input_ids.
struct Run {
  std::int64_t begin = 0;
  std::int64_t length = 0;
};

/// Where each row of the batch has its tokens.
std::vector<Run> token_runs(const at::Tensor& pad_mask) {
  const at::Tensor mask = pad_mask.to(at::kCPU, at::kBool).contiguous();
  const std::int64_t width = mask.size(1);
  const bool* row = mask.const_data_ptr<bool>();
  std::vector<Run> runs;
  for (std::int64_t r = 0; r < mask.size(0); ++r, row += width) {
    const bool* const begin = std::find(row, row + width, true);
    const bool* const end = std::find(begin, row + width, false);
    core::require(begin != end, "pack: a row has no token");
    core::require(std::find(end, row + width, true) == row + width,
                  "pack: padding must be on the right or on the left of a row, not within it");
    runs.push_back({.begin = r * width + (begin - row), .length = end - begin});
  }
  return runs;
}

/// Parts each run where the number of the segment changes.
std::vector<Run> split(const std::vector<Run>& rows, const at::Tensor& segments) {
  const at::Tensor numbers = segments.to(at::kCPU, at::kLong).contiguous();
  const auto* const number = numbers.const_data_ptr<std::int64_t>();
  std::vector<Run> runs;
  for (const Run& row : rows) {
    core::require(number[row.begin] == 0, "pack: a row's segments must start at 0");
    runs.push_back({.begin = row.begin, .length = 1});
    for (std::int64_t t = row.begin + 1; t < row.begin + row.length; ++t) {
      const std::int64_t step = number[t] - number[t - 1];
      core::require(step == 0 || step == 1, "pack: segments must ascend by one");
      if (step == 1) runs.push_back({.begin = t, .length = 0});
      ++runs.back().length;
    }
  }
  return runs;
}

std::vector<Run> runs_of(const Batch& batch) {
  const std::int64_t width = batch.input_ids.size(1);
  std::vector<Run> rows;
  if (batch.pad_mask.defined()) {
    rows = token_runs(batch.pad_mask);
  } else {
    for (std::int64_t r = 0; r < batch.input_ids.size(0); ++r) rows.push_back({r * width, width});
  }
  return batch.segments.defined() ? split(rows, batch.segments) : rows;
}

/// Fills everything but `ids`, on the CPU.
Packing layout(const std::vector<Run>& runs, std::int64_t width, std::int64_t num_places) {
  Packing packing{.padded_tokens = width, .offsets = {0}};
  std::vector<std::int64_t> positions;
  std::vector<std::int64_t> index;
  std::vector<std::int64_t> source;
  std::vector<std::int64_t> last;
  for (std::size_t row = 0; row < runs.size(); ++row) {
    for (std::int64_t t = 0; t < runs[row].length; ++t) {
      positions.push_back(t);
      index.push_back(static_cast<std::int64_t>(row) * width + t);
      source.push_back(runs[row].begin + t);
    }
    packing.offsets.push_back(static_cast<std::int64_t>(positions.size()));
    last.push_back(packing.offsets.back() - 1);
  }
  const std::int64_t num_tokens = packing.num_tokens();
  packing.positions = to_tensor(positions);
  packing.first = to_tensor({packing.offsets.begin(), packing.offsets.end() - 1});
  packing.last = to_tensor(last);
  if (num_tokens < packing.rows() * width) packing.index = to_tensor(index);
  if (num_tokens < num_places) packing.source = to_tensor(source);
  return packing;
}

}  // namespace

at::Tensor Packing::pad(const at::Tensor& packed) const {
  const std::int64_t width = packed.size(1);
  if (!index.defined()) return packed.view({rows(), padded_tokens, width});
  return at::zeros({rows() * padded_tokens, width}, packed.options())
      .index_copy(0, index, packed)
      .view({rows(), padded_tokens, width});
}

at::Tensor Packing::unpad(const at::Tensor& padded) const {
  const at::Tensor flat = padded.reshape({rows() * padded_tokens, padded.size(2)});
  return index.defined() ? flat.index_select(0, index) : flat;
}

at::Tensor Packing::restore(const at::Tensor& packed, at::IntArrayRef shape) const {
  std::vector<std::int64_t> full(shape.begin(), shape.end());
  full.push_back(packed.size(1));
  if (!source.defined()) return packed.view(full);
  return at::zeros({c10::multiply_integers(shape), packed.size(1)}, packed.options())
      .index_copy(0, source, packed)
      .view(full);
}

at::Tensor Packing::types_of(const at::Tensor& table) const {
  return type_ids.defined() ? at::embedding(table, type_ids) : table.select(0, 0);
}

at::Tensor Packing::find(const at::Tensor& places) const {
  // The places ascend, so a token's number is the number of tokens before it.
  return source.defined() ? at::searchsorted(source, places) : places;
}

Packing pack(const Batch& batch, at::Device device) {
  const at::Tensor& ids = batch.input_ids;
  core::require(ids.defined() && ids.dim() == 2 && ids.scalar_type() == at::kLong,
                "pack: input_ids must be [rows, tokens] int64");
  core::require(ids.numel() > 0, "pack: the batch is empty");
  for (const at::Tensor* const other : {&batch.pad_mask, &batch.segments, &batch.type_ids}) {
    core::require(!other->defined() || other->sizes() == ids.sizes(),
                  "pack: pad_mask, segments and type_ids must have the shape of input_ids");
  }
  const at::NoGradGuard no_grad;
  const std::vector<Run> runs = runs_of(batch);
  std::int64_t width = ids.size(1);
  if (batch.segments.defined()) {
    width = std::max_element(runs.begin(), runs.end(), [](const Run& a, const Run& b) {
              return a.length < b.length;
            })->length;
  }
  Packing packing = layout(runs, width, ids.numel());
  const auto taken = [&packing](const at::Tensor& padded) {
    const at::Tensor flat = padded.to(at::kCPU).reshape(-1);
    return packing.source.defined() ? flat.index_select(0, packing.source) : flat;
  };
  packing.ids = taken(ids);
  if (batch.type_ids.defined()) packing.type_ids = taken(batch.type_ids);
  for (at::Tensor* const part : {&packing.ids, &packing.type_ids, &packing.positions,
                                 &packing.first, &packing.last, &packing.index, &packing.source}) {
    if (part->defined()) *part = send(*part, device);
  }
  return packing;
}

}  // namespace drystone::models
