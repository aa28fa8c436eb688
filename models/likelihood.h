#pragma once
// How probable a causal language model finds given continuations.

#include <cstdint>
#include <vector>

#include "models/model.h"

namespace drystone::models {

struct Likelihood {
  double log_probability = 0.0;  ///< Σ ln p over the row's labelled tokens
  std::int64_t num_tokens = 0;   ///< how many there were
  bool is_greedy = true;         ///< each was the most probable one
};

/// One for each row of the batch: of the tokens whose labels are not kIgnoredLabel, given all
/// before them. A prompt and its continuation are a row whose prompt has no labels. Computed
/// without autograd record, the logarithms in float32 at least, the sums in float64.
/// @param batch  with labels, one sample a row
/// @throws core::InvalidArgument  no labels, several samples in a row, or no causal language model
std::vector<Likelihood> log_likelihoods(Model& model, const Batch& batch);

}  // namespace drystone::models
