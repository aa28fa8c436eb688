#include "models/footprint.h"

#include <algorithm>

namespace drystone::models {
namespace {

constexpr std::int64_t kFloat = sizeof(float);
constexpr std::int64_t kBlock = 64;  // block_attention.cpp

/// The kernels' float32 copies of narrower q, k and v and of their gradients.
std::int64_t float_copies(std::int64_t width, std::int64_t element_size, const PassShape& shape) {
  return element_size < kFloat ? 2 * width * shape.tokens * kFloat : 0;
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
    const bool is_first = kept == 0;  // no operation made its input that could make it again
    if (checkpointing || is_first) kept += layer.input;
    if (!checkpointing) kept += layer.kept;
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

AttentionFootprint block_attention_footprint(std::int64_t num_heads, std::int64_t width,
                                             std::int64_t element_size, const PassShape& shape) {
  const std::int64_t block = std::min(kBlock, shape.longest) * shape.longest * num_heads * kFloat;
  return {.kept = 0, .passing = 4 * block + float_copies(width, element_size, shape)};
}

AttentionFootprint row_attention_footprint(std::int64_t num_heads, std::int64_t width,
                                           std::int64_t element_size, const PassShape& shape) {
  const std::int64_t pairs = num_heads * shape.longest * shape.longest * kFloat;
  return {.kept = 0, .passing = 4 * pairs + float_copies(width, element_size, shape)};
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
