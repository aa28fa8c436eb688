#pragma once
// From logits to the next token, as transformers' logits processors do it and in their order:
// repetition penalty, temperature, top-k, top-p.

#include <cstdint>
#include <span>

#include <ATen/core/Tensor.h>

#include "core/seed.h"

namespace drystone::models {

struct Sampling {
  double temperature = 0.0;         ///< 0: greedy, the most probable token; top_k and top_p rest
  std::int64_t top_k = 0;           ///< the k most probable tokens; 0: all
  double top_p = 1.0;               ///< the fewest tokens that have this probability together
  double repetition_penalty = 1.0;  ///< > 1 makes tokens of the text so far less probable
  std::uint64_t seed = 0;

  bool is_greedy() const { return temperature == 0.0; }
  /// @throws core::InvalidArgument  names the value that is out of its range
  void check() const;
};

/// @param logits  [vocab]
/// @param text    the prompt and what was generated: whose tokens are penalised
/// @return        [vocab] float32, −∞ where a token is excluded
at::Tensor process_logits(const at::Tensor& logits, std::span<const std::int64_t> text,
                          const Sampling& sampling);

/// A token by the softmax of processed logits: the one where the cumulated probability, in the
/// order of the ids, passes `uniform` in [0, 1).
std::int64_t draw(const at::Tensor& processed, double uniform);

/// The generator of the `position`-th new token of the `prompt`-th prompt: what is drawn does not
/// depend on the other prompts.
core::SplitMix64 token_stream(std::uint64_t seed, std::size_t prompt, std::size_t position);

}  // namespace drystone::models
