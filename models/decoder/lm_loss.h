#pragma once
// Cross entropy of a language model's head without its logits.

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace drystone::models {

/// mean −log softmax(softcap(hidden · headᵀ))[label], a few rows at a time: at no time do the
/// logits of all rows exist. Of such a piece the vocabulary is taken in blocks that a CPU's cache
/// holds between the products. The gradient by `hidden` is made along with the loss, the head being
/// frozen, so that backward costs one multiplication.
/// @param hidden   [targets, hidden]; the loss is computed in float32 at least
/// @param head     [vocab, hidden], frozen
/// @param labels   [targets] int64, tokens of the vocabulary; on a GPU that is not checked
/// @param softcap  c > 0: logits become c · tanh(logits / c) (Gemma 2); 0: as they are
/// @param counts   how many targets each of the means is over, in order; together all of them
/// @return         [counts], 0 where there are no targets
at::Tensor lm_head_losses(const at::Tensor& hidden, const at::Tensor& head,
                          const at::Tensor& labels, const std::vector<std::int64_t>& counts,
                          double softcap = 0.0);
/// The mean over all of them, a scalar.
at::Tensor lm_head_loss(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& labels,
                        double softcap = 0.0);

/// Numbers of logits and their like that lm_head_loss holds at most at once.
std::int64_t lm_loss_elements(std::int64_t targets, std::int64_t vocab, bool has_softcap,
                              at::Device device);

}  // namespace drystone::models
