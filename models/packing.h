#pragma once
// A batch without its padding: all samples' tokens one after the other, so that no layer computes
// on padding. Only attention needs to know where a sample begins.

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/model.h"

namespace drystone::models {

/// The tokens of a batch, sample by sample. A sample is a row of the batch, or one segment of a row
/// where several samples share it; "row" below means a sample.
struct Packing {
  std::int64_t padded_tokens = 0;     ///< width of the padded layout: at least the longest row's
  std::vector<std::int64_t> offsets;  ///< row r's tokens are [offsets[r], offsets[r + 1])
  at::Tensor ids;                     ///< [tokens] int64
  at::Tensor type_ids;                ///< [tokens] int64; undefined: all 0
  at::Tensor positions;               ///< [tokens] int64, from 0 in every row
  at::Tensor first;                   ///< [rows] int64: where each row's first token is
  at::Tensor last;                    ///< [rows] int64: where each row's last token is
  at::Tensor index;  ///< [tokens] int64, place in the flattened [rows, padded_tokens] layout;
                     ///< undefined: no padding
  at::Tensor
      source;  ///< [tokens] int64, place in the flattened input_ids; undefined: all, in order

  std::int64_t rows() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
  std::int64_t num_tokens() const { return offsets.back(); }
  std::int64_t length(std::int64_t row) const {
    const auto r = static_cast<std::size_t>(row);
    return offsets[r + 1] - offsets[r];
  }

  /// [tokens, width] → [rows, padded_tokens, width], zeros where there is padding. Differentiable.
  at::Tensor pad(const at::Tensor& packed) const;
  /// The reverse.
  at::Tensor unpad(const at::Tensor& padded) const;
  /// [tokens, width] → […input_ids' shape, width], zeros where there is padding. Differentiable.
  at::Tensor restore(const at::Tensor& packed, at::IntArrayRef shape) const;
  /// The tokens' rows of a table of token types [types, width]: [tokens, width], or [width] if all
  /// have type 0.
  at::Tensor types_of(const at::Tensor& table) const;
  /// Where in this packing the given places of the flattened input_ids are.
  /// @param places  [n] int64, all of them tokens
  at::Tensor find(const at::Tensor& places) const;
};

/// Padding may be on the right or on the left; positions start at each row's first token. The
/// layout is made on the CPU, where a batch belongs (one on a GPU is waited for), and sent.
/// @param device  of the packing's tensors
/// @throws core::InvalidArgument  wrong shapes or types, an empty row, padding between tokens, or
///                                segments that do not ascend by 0 or 1 from 0
Packing pack(const Batch& batch, at::Device device = at::kCPU);

}  // namespace drystone::models
