#include "evaluation/pruned_checkpoint.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace drystone::evaluation {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using Kind = models::PrunableBlock::Kind;

namespace {

/// Whose configuration refuses a hidden_size that is no multiple of the heads.
constexpr std::array<std::string_view, 3> kDivides = {"llama", "gemma2", "gemma3_text"};

std::int64_t query_heads(const Json& config) {
  return config.value("num_attention_heads", std::int64_t{0});
}
std::int64_t kv_heads(const Json& config) {
  const auto own = config.find("num_key_value_heads");
  return own == config.end() || own->is_null() ? query_heads(config) : own->get<std::int64_t>();
}

bool is_encoder(const Json& config) {
  const std::string type = config.value("model_type", "");
  return type.ends_with("bert") || type.starts_with("deberta") || type.starts_with("roberta") ||
         type.starts_with("xlm-roberta");
}

std::int64_t num_kept(const at::Tensor& kept) { return kept.sum().item<std::int64_t>(); }

}  // namespace

tensors::KeptGroups masks_beside(const fs::path& adapter) {
  const fs::path file = adapter / tensors::kMaskFile;
  return fs::exists(file) ? tensors::read_mask(file) : tensors::KeptGroups{};
}

void apply_masks_beside(models::Model& model, const fs::path& adapter) {
  try {
    models::set_masks(model, masks_beside(adapter));
  } catch (const core::InvalidArgument& error) {
    throw core::ConfigError((adapter / tensors::kMaskFile).string() + ": " + error.what());
  }
}

PrunedCheckpoint::PrunedCheckpoint(const tensors::KeptGroups& kept,
                                   const std::map<std::string, models::LinearShape>& modules,
                                   Json& config) {
  if (kept.empty()) return;
  const Blocks blocks = models::find_prunable(modules, kv_heads(config));
  for (const auto& [name, groups] : kept) {
    const auto fits = [&](const models::PrunableBlock& block) {
      return block.name == name && block.groups == groups.numel();
    };
    if (std::ranges::none_of(blocks, fits)) {
      throw core::ConfigError(std::string(tensors::kMaskFile) + ": " + name + " with " +
                              std::to_string(groups.numel()) +
                              " groups is not in the model; name the base that was pruned");
    }
  }
  cut_kind(Kind::Heads, blocks, kept, modules, config);
  cut_kind(Kind::Channels, blocks, kept, modules, config);
}

void PrunedCheckpoint::cut_kind(Kind kind, const Blocks& blocks, const tensors::KeptGroups& kept,
                                const std::map<std::string, models::LinearShape>& modules,
                                Json& config) {
  std::int64_t groups = 0;
  std::int64_t wanted = 0;
  std::int64_t alive = 0;
  std::int64_t all = 0;
  const auto mask_of = [&](const models::PrunableBlock& block) {
    const auto own = kept.find(block.name);
    return own == kept.end() ? at::ones({block.groups}, at::kBool) : own->second;
  };
  for (const models::PrunableBlock& block : blocks) {
    if (block.kind != kind) continue;
    const std::int64_t own = num_kept(mask_of(block));
    groups = std::max(groups, block.groups);
    wanted = std::max(wanted, own);
    alive += own;
    all += block.groups;
  }
  if (alive == all) return;
  const std::int64_t count = groups_in_config(kind, wanted, groups, config);
  for (const models::PrunableBlock& block : blocks) {
    if (block.kind != kind) continue;
    const auto choice = [&](std::int64_t width) {
      return choose(mask_of(block), count, width / block.groups);
    };
    for (const std::string& row : block.rows) rows_[row] = choice(modules.at(row).out);
    columns_[block.columns] = choice(modules.at(block.columns).in);
  }
  const std::string what = kind == Kind::Heads ? "key-value heads" : "channels";
  std::string note = what + ": " + std::to_string(all - alive) + " of " + std::to_string(all) +
                     " pruned; every layer holds " + std::to_string(count) + " of " +
                     std::to_string(groups);
  const std::int64_t zeros = count * (all / groups) - alive;
  if (zeros > 0) note += ", " + std::to_string(zeros) + " in all as zeros";
  notes_.push_back(std::move(note));
  if (count == groups) return;
  if (kind == Kind::Channels) {
    config["intermediate_size"] = count;
    return;
  }
  const std::int64_t queries = query_heads(config) / kv_heads(config);
  for (const models::PrunableBlock& block : blocks) {
    if (block.kind == Kind::Heads) config["head_dim"] = modules.at(block.rows[1]).out / groups;
  }
  config["num_attention_heads"] = count * queries;
  config["num_key_value_heads"] = count;
}

std::int64_t PrunedCheckpoint::groups_in_config(Kind kind, std::int64_t wanted, std::int64_t groups,
                                                const Json& config) {
  if (kind == Kind::Channels) return wanted;
  if (is_encoder(config)) return groups;
  const std::string type = config.value("model_type", "");
  if (std::ranges::find(kDivides, type) == kDivides.end()) return wanted;
  const std::int64_t hidden = config.value("hidden_size", std::int64_t{0});
  const std::int64_t queries = query_heads(config) / kv_heads(config);
  while (wanted < groups && hidden % (wanted * queries) != 0) ++wanted;
  return wanted;
}

PrunedCheckpoint::Choice PrunedCheckpoint::choose(const at::Tensor& kept, std::int64_t count,
                                                  std::int64_t size) {
  const bool* const keeps = kept.const_data_ptr<bool>();
  std::int64_t spare = count - num_kept(kept);
  std::vector<std::int64_t> groups;
  for (std::int64_t group = 0; group < kept.numel(); ++group) {
    if (keeps[group] || spare-- > 0) groups.push_back(group);
  }
  at::Tensor index = at::arange(kept.numel() * size, at::kLong).view({kept.numel(), size});
  at::Tensor chosen = at::ones({static_cast<std::int64_t>(groups.size())}, at::kLong);
  std::copy(groups.begin(), groups.end(), chosen.mutable_data_ptr<std::int64_t>());
  return {.index = index.index_select(0, chosen).view(-1),
          .alive = kept.index_select(0, chosen).repeat_interleave(size),
          .before = kept.numel() * size};
}

at::Tensor PrunedCheckpoint::cut(const std::string& name, const at::Tensor& tensor) const {
  const std::string module = name.substr(0, name.rfind('.'));
  at::Tensor result = tensor;
  if (const auto rows = rows_.find(module); rows != rows_.end()) {
    const at::Tensor alive = rows->second.alive.to(result.scalar_type());
    result = result.index_select(0, rows->second.index);
    result = result * (result.dim() == 2 ? alive.unsqueeze(1) : alive);
  }
  const auto columns = columns_.find(module);
  if (columns != columns_.end() && tensor.dim() == 2) {
    const at::Tensor alive = columns->second.alive.to(result.scalar_type());
    result = result.index_select(1, columns->second.index) * alive;
  }
  return result;
}

std::uint64_t PrunedCheckpoint::cut_bytes(const std::string& name, std::uint64_t bytes) const {
  const std::string module = name.substr(0, name.rfind('.'));
  const auto scaled = [](std::uint64_t size, const Choice& choice) {
    return size / static_cast<std::uint64_t>(choice.before) *
           static_cast<std::uint64_t>(choice.index.numel());
  };
  if (const auto rows = rows_.find(module); rows != rows_.end())
    bytes = scaled(bytes, rows->second);
  const auto columns = columns_.find(module);
  if (columns != columns_.end() && name.ends_with(".weight"))
    bytes = scaled(bytes, columns->second);
  return bytes;
}

}  // namespace drystone::evaluation
