#include "models/prunable.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <tuple>

#include <ATen/TensorOperators.h>

#include "core/check.h"

namespace drystone::models {
namespace {

using Kind = PrunableBlock::Kind;

/// How a family names a block's modules, behind the block's own name.
struct Pattern {
  Kind kind;
  std::array<std::string_view, 3> rows;  ///< empty ones are none
  std::string_view columns;
};

constexpr std::array kPatterns = {
    Pattern{Kind::Heads,
            {".self_attn.q_proj", ".self_attn.k_proj", ".self_attn.v_proj"},
            ".self_attn.o_proj"},
    Pattern{Kind::Channels, {".mlp.gate_proj", ".mlp.up_proj", ""}, ".mlp.down_proj"},
    Pattern{Kind::Heads,
            {".attention.self.query", ".attention.self.key", ".attention.self.value"},
            ".attention.output.dense"},
    Pattern{
        Kind::Heads,
        {".attention.self.query_proj", ".attention.self.key_proj", ".attention.self.value_proj"},
        ".attention.output.dense"},
    Pattern{Kind::Channels, {".intermediate.dense", "", ""}, ".output.dense"},
};

/// The last number among the name's parts.
std::int64_t layer_of(std::string_view name) {
  std::int64_t layer = 0;
  for (std::size_t at = 0; at < name.size();) {
    const std::size_t dot = std::min(name.find('.', at), name.size());
    std::int64_t number = 0;
    const char* const end = name.data() + dot;
    const auto read = std::from_chars(name.data() + at, end, number);
    if (read.ec == std::errc() && read.ptr == end) layer = number;
    at = dot + 1;
  }
  return layer;
}

/// The block that `pattern` makes of the layer `base`; without groups if there is none.
PrunableBlock match(const std::string& base, const Pattern& pattern,
                    const std::map<std::string, LinearShape>& modules, std::int64_t num_kv_heads) {
  const std::string name = base + (pattern.kind == Kind::Heads ? ".heads" : ".channels");
  PrunableBlock block{.name = name, .kind = pattern.kind, .layer = layer_of(base)};
  for (const std::string_view row : pattern.rows) {
    if (!row.empty()) block.rows.push_back(base + std::string(row));
  }
  block.columns = base + std::string(pattern.columns);
  const auto is_missing = [&](const std::string& module) { return !modules.contains(module); };
  if (is_missing(block.columns) || std::ranges::any_of(block.rows, is_missing)) return block;
  const std::int64_t groups =
      pattern.kind == Kind::Heads ? num_kv_heads : modules.at(block.rows.front()).out;
  if (groups < 1 || modules.at(block.columns).in % groups != 0) return block;
  for (const std::string& row : block.rows) {
    if (modules.at(row).out % groups != 0) return block;
  }
  block.groups = groups;
  return block;
}

}  // namespace

std::vector<PrunableBlock> find_prunable(const std::map<std::string, LinearShape>& modules,
                                         std::int64_t num_kv_heads) {
  std::vector<PrunableBlock> blocks;
  for (const auto& [name, shape] : modules) {
    for (const Pattern& pattern : kPatterns) {
      if (!name.ends_with(pattern.rows[0])) continue;
      const std::string base = name.substr(0, name.size() - pattern.rows[0].size());
      PrunableBlock block = match(base, pattern, modules, num_kv_heads);
      if (block.groups > 0) blocks.push_back(std::move(block));
    }
  }
  std::ranges::sort(blocks, {}, [](const PrunableBlock& block) {
    return std::tuple(block.layer, block.kind, std::string_view(block.name));
  });
  return blocks;
}

std::vector<PrunableBlock> prunable_blocks(Model& model) {
  std::map<std::string, LinearShape> modules;
  for (const Linear* linear : model.linears()) {
    modules[linear->name] = {.out = linear->out_features(), .in = linear->in_features()};
  }
  return find_prunable(modules, model.num_kv_heads());
}

void set_masks(Model& model, const tensors::KeptGroups& kept) {
  std::map<std::string, Linear*> linears;
  for (Linear* linear : model.linears()) {
    linear->mask = at::Tensor();
    linears[linear->name] = linear;
  }
  if (kept.empty()) return;
  std::size_t found = 0;
  for (const PrunableBlock& block : prunable_blocks(model)) {
    const auto own = kept.find(block.name);
    if (own == kept.end()) continue;
    core::require(own->second.numel() == block.groups,
                  "pruning: " + block.name + " has " + std::to_string(block.groups) +
                      " groups, the mask " + std::to_string(own->second.numel()));
    ++found;
    if (own->second.all().item<bool>()) continue;
    for (const std::string& row : block.rows) {
      Linear& linear = *linears.at(row);
      linear.mask = own->second.to(linear.device(), at::kFloat)
                        .repeat_interleave(linear.out_features() / block.groups);
    }
  }
  core::require(found == kept.size(), "pruning: the mask is of another model");
}

}  // namespace drystone::models
