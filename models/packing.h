#pragma once
// A batch without its padding: all rows' tokens one after the other, so that no layer computes on
// padding. Only attention needs to know where a row begins.

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/model.h"

namespace drystone::models {

struct Packing {
  std::int64_t padded_tokens = 0;     ///< width of the padded batch
  std::vector<std::int64_t> offsets;  ///< row r's tokens are [offsets[r], offsets[r + 1])
  at::Tensor ids;                     ///< [tokens] int64
  at::Tensor positions;               ///< [tokens] int64, from 0 in every row
  at::Tensor first;                   ///< [rows] int64: where each row's first token is
  at::Tensor index;  ///< [tokens] int64, place in the flattened padded batch; undefined: no padding

  std::int64_t rows() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
  std::int64_t num_tokens() const { return offsets.back(); }

  /// [tokens, width] → [rows, padded_tokens, width], zeros where there is padding. Differentiable.
  at::Tensor pad(const at::Tensor& packed) const;
  /// The reverse.
  at::Tensor unpad(const at::Tensor& padded) const;
};

/// @throws core::InvalidArgument  wrong shapes or types, an empty row, or padding that is not on
///                                the right
Packing pack(const Batch& batch);

}  // namespace drystone::models
