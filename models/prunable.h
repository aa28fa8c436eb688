#pragma once
// The parts of a model that can be removed as a whole: attention heads and feed-forward channels.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "models/model.h"
#include "tensors/pruning.h"

namespace drystone::models {

/// One layer's attention or feed-forward part, cut into groups. Group g is the g-th equal run of
/// each row module's outputs, and of the column module's inputs: a key-value head with its query
/// heads, or a channel.
struct PrunableBlock {
  enum class Kind : std::uint8_t { Heads, Channels };
  std::string name;  ///< "model.layers.0.heads", "model.layers.0.channels"
  Kind kind = Kind::Heads;
  std::int64_t layer = 0;  ///< its number in the checkpoint
  std::int64_t groups = 0;
  std::vector<std::string> rows;  ///< whose outputs are masked: q, k, v; gate, up
  std::string columns;            ///< that reads them: o; down
};

struct LinearShape {
  std::int64_t out = 0;
  std::int64_t in = 0;
};

/// Blocks among these modules, layer by layer, heads first. Decoders with separate projections
/// (Llama, Mistral, Qwen, Gemma) and the encoders have them; fused projections (Phi-3, GPT-2) are
/// none.
/// @param num_kv_heads  of every layer; 0: unknown, so no heads
std::vector<PrunableBlock> find_prunable(const std::map<std::string, LinearShape>& modules,
                                         std::int64_t num_kv_heads);
std::vector<PrunableBlock> prunable_blocks(Model& model);

/// Masks the outputs of every row module of the blocks in `kept` (Linear::mask) and unmasks all
/// others.
/// @throws core::InvalidArgument  the model has no such block, or another number of groups
void set_masks(Model& model, const tensors::KeptGroups& kept);

}  // namespace drystone::models
