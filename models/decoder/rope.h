#pragma once
// Rotary position embeddings (Su et al., 2021, arXiv:2104.09864) and their extensions to longer
// texts: linear (Chen et al., 2023, arXiv:2306.15595), dynamic NTK, YaRN (Peng et al., 2023,
// arXiv:2309.00071), LongRoPE (Ding et al., 2024, arXiv:2402.13753) and Llama 3's.

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/hf_config.h"
#include "models/packing.h"

namespace drystone::models {

enum class RopeKind : std::uint8_t { Default, Linear, Dynamic, Llama3, Yarn, LongRope };

struct RopeConfig {
  RopeKind kind = RopeKind::Default;
  double theta = 10000.0;
  std::int64_t rotated = 0;  ///< how many of a head's numbers turn, the first ones; even
  double factor = 1.0;
  double attention_factor = 1.0;          ///< on cosine and sine
  std::int64_t max_positions = 0;         ///< dynamic: beyond it the base grows
  std::int64_t original_positions = 0;    ///< llama3, yarn, longrope: what was trained on
  double low_freq_factor = 1.0;           ///< llama3
  double high_freq_factor = 4.0;          ///< llama3
  double beta_fast = 32.0;                ///< yarn
  double beta_slow = 1.0;                 ///< yarn
  bool truncate = true;                   ///< yarn
  std::vector<double> short_factor = {};  ///< longrope, [rotated / 2]
  std::vector<double> long_factor = {};   ///< longrope, [rotated / 2]

  /// Whether the frequencies depend on how long the text is.
  bool depends_on_length() const { return kind == RopeKind::Dynamic || kind == RopeKind::LongRope; }
};

/// What a family's config.json says besides the parameters.
struct RopeDefaults {
  std::int64_t head_size = 0;
  double theta = 10000.0;
};

/// Reads `rope_parameters` (transformers 5) or `rope_theta`, `rope_scaling` and
/// `partial_rotary_factor` (transformers 4).
/// @param layer_type  "full_attention" or "sliding_attention" where rope_parameters has an object
///                    for each, as Gemma 3's; else "" (a nested object is refused)
/// @throws core::ConfigError  an unknown type, or a parameter that is missing or wrong
RopeConfig read_rope(const HfConfig& config, const RopeDefaults& defaults,
                     const std::string& layer_type = "");

/// The frequencies of a text of `length` tokens, [rotated / 2] float32 on CPU, operation by
/// operation as transformers computes them: at long positions the rounding shows.
at::Tensor inverse_frequencies(const RopeConfig& rope, std::int64_t length);

/// Cosine and sine for each token, [tokens, 1, rotated / 2].
struct Angles {
  at::Tensor cos;
  at::Tensor sin;
};

/// @param positions  [tokens] int64
/// @param lengths    where the kind depends on the length: [tokens]' texts, as runs
///                   (number of tokens, length of their text); else not read
struct TextRun {
  std::int64_t num_tokens = 0;
  std::int64_t length = 0;
};
Angles angles(const RopeConfig& rope, const at::Tensor& positions, const std::vector<TextRun>& runs,
              at::ScalarType dtype);

/// The same for a packed batch. A text's length is its own, not the batch's longest as in
/// transformers: what a sample gets does not depend on its neighbours.
Angles angles(const RopeConfig& rope, const Packing& packing, at::ScalarType dtype);

/// Turns each pair (i, i + rotated / 2) of every head; the rest passes. Differentiable in x; one
/// node of the graph, which keeps only the angles.
/// @param x  [tokens, heads, head size]; any strides but 1 in the last   @return contiguous
at::Tensor rotate(const at::Tensor& x, const Angles& angles);

}  // namespace drystone::models
