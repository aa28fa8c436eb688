#pragma once
// What a training pass keeps in memory, from shapes alone: the sums behind Model::activation_bytes.

#include <cstdint>
#include <vector>

#include "models/linear.h"
#include "models/model.h"

namespace drystone::models {

/// Bytes of one layer for a given batch.
struct LayerFootprint {
  bool records = false;      ///< autograd keeps what its backward pass needs
  std::int64_t input = 0;    ///< what enters it, which stays where the layer is computed again
  std::int64_t kept = 0;     ///< else: what lives from the forward to the backward pass
  std::int64_t passing = 0;  ///< beside that, at most at any one time of either pass
};

/// The most that is alive at once. @param loss  bytes on the way through the head and the loss
std::int64_t peak_bytes(const std::vector<LayerFootprint>& layers, std::int64_t loss,
                        bool checkpointing);

/// Copies that a product makes for a while of the largest of these weights, in another order.
std::int64_t reordered_bytes(const std::vector<const Linear*>& linears);

struct AttentionFootprint {
  std::int64_t kept = 0;  ///< beside q, k, v and what they are made into
  std::int64_t passing = 0;
};
/// causal_attention_by_blocks. @param width  of q, k and v together; element_size  of theirs
AttentionFootprint block_attention_footprint(std::int64_t num_heads, std::int64_t width,
                                             std::int64_t element_size, const PassShape& shape);
/// attention_by_rows
AttentionFootprint row_attention_footprint(std::int64_t num_heads, std::int64_t width,
                                           std::int64_t element_size, const PassShape& shape);
/// In padded layout, by LibTorch's kernels. @param width  of q, k and v together
/// @param kept_pairs  copies of [rows, heads, longest, longest] that are kept; 0: fused kernels
AttentionFootprint padded_attention_footprint(std::int64_t width, std::int64_t num_heads,
                                              std::int64_t kept_pairs, std::int64_t element_size,
                                              const PassShape& shape);

}  // namespace drystone::models
