#include "models/packing.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include "core/check.h"

namespace drystone::models {
namespace {

at::Tensor to_tensor(const std::vector<std::int64_t>& values, at::Device device) {
  // from_blob wants a mutable pointer; the clone is made before anybody could write.
  auto* const data = const_cast<std::int64_t*>(values.data());
  return at::from_blob(data, {static_cast<std::int64_t>(values.size())}, at::kLong)
      .clone()
      .to(device);
}

/// The number of tokens in each row.
std::vector<std::int64_t> row_lengths(const at::Tensor& pad_mask) {
  const at::Tensor mask = pad_mask.to(at::kCPU, at::kBool).contiguous();
  const std::int64_t width = mask.size(1);
  const bool* row = mask.const_data_ptr<bool>();
  std::vector<std::int64_t> lengths;
  for (std::int64_t r = 0; r < mask.size(0); ++r, row += width) {
    std::int64_t length = 0;
    while (length < width && row[length]) ++length;
    core::require(length > 0, "pack: a row must begin with a token");
    for (std::int64_t t = length; t < width; ++t) {
      core::require(!row[t], "pack: padding must be on the right");
    }
    lengths.push_back(length);
  }
  return lengths;
}

/// Fills everything but `ids`.
Packing layout(const std::vector<std::int64_t>& lengths, std::int64_t width, at::Device device) {
  Packing packing{.padded_tokens = width, .offsets = {0}};
  std::vector<std::int64_t> positions;
  std::vector<std::int64_t> index;
  for (std::size_t row = 0; row < lengths.size(); ++row) {
    for (std::int64_t t = 0; t < lengths[row]; ++t) {
      positions.push_back(t);
      index.push_back(static_cast<std::int64_t>(row) * width + t);
    }
    packing.offsets.push_back(static_cast<std::int64_t>(positions.size()));
  }
  const bool padded = packing.num_tokens() < packing.rows() * width;
  packing.positions = to_tensor(positions, device);
  packing.first = to_tensor({packing.offsets.begin(), packing.offsets.end() - 1}, device);
  if (padded) packing.index = to_tensor(index, device);
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

Packing pack(const Batch& batch) {
  const at::Tensor& ids = batch.input_ids;
  core::require(ids.defined() && ids.dim() == 2 && ids.scalar_type() == at::kLong,
                "pack: input_ids must be [rows, tokens] int64");
  core::require(ids.numel() > 0, "pack: the batch is empty");
  core::require(!batch.pad_mask.defined() || batch.pad_mask.sizes() == ids.sizes(),
                "pack: pad_mask must have the shape of input_ids");
  const at::NoGradGuard no_grad;
  const auto lengths =
      batch.pad_mask.defined()
          ? row_lengths(batch.pad_mask)
          : std::vector<std::int64_t>(static_cast<std::size_t>(ids.size(0)), ids.size(1));
  Packing packing = layout(lengths, ids.size(1), ids.device());
  packing.ids = ids.reshape(-1);
  if (packing.index.defined()) packing.ids = packing.ids.index_select(0, packing.index);
  return packing;
}

}  // namespace drystone::models
