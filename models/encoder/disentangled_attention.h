#pragma once
// DeBERTa's attention: content and relative position have projections of their own (He et al.,
// 2021, arXiv:2006.03654; buckets: arXiv:2111.09543).

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/attention.h"
#include "models/packing.h"

namespace drystone::models {

/// The projected embeddings of the 2T − 1 distances (query − key) in a batch T tokens wide. A part
/// without a tensor adds nothing.
struct PositionTerms {
  at::Tensor key;    ///< [2T − 1, hidden], distance T − 1 first: "c2p"
  at::Tensor query;  ///< [2T − 1, hidden], distance 1 − T first: "p2c"
};

/// softmax(scale · (q·kᵀ + q·P_kᵀ + k·P_qᵀ)) · v within every row and head, the second and third
/// term taken at each pair's distance. Any device and dtype; differentiable in all five tensors.
/// No gather: its gradient would add up in an order that CUDA does not fix.
/// @return  the shape of q ([tokens, hidden], or [rows, hidden] for the first tokens alone)
at::Tensor disentangled_attention(const AttentionInput& input, const PositionTerms& positions,
                                  double scale, const Packing& packing);

/// The row of the relative-position table for each distance 1 − `tokens` … `tokens` − 1, int64 on
/// the CPU: `span` + distance, where `buckets` > 0 by logarithmic buckets beyond buckets / 2, held
/// within [0, 2·span).
/// @param max_positions  the distance of the last bucket
at::Tensor relative_rows(std::int64_t tokens, std::int64_t span, std::int64_t buckets,
                         std::int64_t max_positions);

}  // namespace drystone::models
