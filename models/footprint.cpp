#include "models/footprint.h"

#include <algorithm>

namespace drystone::models {
namespace {

constexpr std::int64_t kFloat = sizeof(float);
constexpr std::int64_t kBlock = 64;               // block_attention.cpp
constexpr std::int64_t kMaxKeptBytes = 64 << 20;  // block_attention.cpp, row_attention.cpp

std::int64_t divide_up(std::int64_t value, std::int64_t by) { return (value + by - 1) / by; }

/// Samples of the longest length that hold at least all tokens: pairs are the most there.
std::int64_t longest_samples(const PassShape& shape) {
  return divide_up(shape.tokens, std::max<std::int64_t>(shape.longest, 1));
}

}  // namespace

std::int64_t peak_bytes(const std::vector<LayerFootprint>& layers, std::int64_t loss,
                        bool checkpointing) {
  std::int64_t kept = 0;
  std::int64_t again = 0;  // of the layer that is being computed again
  std::int64_t passing = 0;
  for (const LayerFootprint& layer : layers) {
    passing = std::max(passing, layer.passing);
    if (!layer.records) continue;
    kept += layer.input + (checkpointing ? 0 : layer.kept);
    again = std::max(again, checkpointing ? layer.kept : 0);
  }
  return kept + std::max(loss, again + passing);
}

std::int64_t reordered_bytes(const std::vector<const Linear*>& linears) {
  std::int64_t most = 0;
  for (const Linear* const linear : linears) {
    if (!linear->weight.defined())
      continue;  // not there, or in 4 bits: goes through a buffer of a few rows
    most = std::max(most, linear->out_features() * linear->in_features() * kFloat);
  }
  return most;
}

bool any_adapted(const std::vector<const Linear*>& linears) {
  return std::any_of(linears.begin(), linears.end(), [](const Linear* linear) {
    return linear->adapter != nullptr ||
           (linear->weight.defined() && linear->weight.requires_grad());
  });
}

AttentionFootprint block_attention_footprint(std::int64_t num_heads, std::int64_t window,
                                             bool recomputes, const PassShape& shape) {
  std::int64_t pairs = 0;
  for (std::int64_t begin = 0; begin < shape.longest; begin += kBlock) {
    const std::int64_t end = std::min(begin + kBlock, shape.longest);
    const std::int64_t keys = window > 0 ? std::min(end, window + kBlock) : end;
    pairs += (end - begin) * keys;
  }
  const std::int64_t all = longest_samples(shape) * num_heads * pairs * kFloat;
  const std::int64_t block = std::min(kBlock, shape.longest) * shape.longest * num_heads * kFloat;
  const bool keeps = !recomputes && all <= kMaxKeptBytes;
  return {.kept = keeps ? all : 0, .passing = (keeps ? 2 : 4) * block};
}

AttentionFootprint row_attention_footprint(std::int64_t num_heads, const PassShape& shape) {
  const std::int64_t row = num_heads * shape.longest * shape.longest * kFloat;
  const std::int64_t all = longest_samples(shape) * row;
  const bool keeps = all <= kMaxKeptBytes;
  return {.kept = keeps ? all : 0, .passing = (keeps ? 2 : 3) * row};
}

AttentionFootprint padded_attention_footprint(std::int64_t width, std::int64_t num_heads,
                                              std::int64_t kept_pairs, std::int64_t element_size,
                                              const PassShape& shape) {
  const std::int64_t places = shape.rows * shape.longest;
  const std::int64_t pairs = num_heads * places * shape.longest * element_size;
  return {.kept = 2 * places * width * element_size + kept_pairs * pairs,
          .passing = 2 * places * width * element_size + (kept_pairs > 0 ? 4 : 1) * pairs};
}

}  // namespace drystone::models
