#pragma once
// A checkpoint without the heads and channels that a federation has pruned.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json_fwd.hpp>

#include "models/model.h"
#include "models/prunable.h"
#include "tensors/pruning.h"

namespace drystone::evaluation {

/// The masks beside an adapter (ADAPTER/pruning.json); empty: nothing is pruned.
/// @throws core::IoError
tensors::KeptGroups masks_beside(const std::filesystem::path& adapter);
/// Sets the model's masks to those beside the adapter, if there are any.
/// @throws core::ConfigError  they are of another model
void apply_masks_beside(models::Model& model, const std::filesystem::path& adapter);

/// Which rows and columns of each linear layer stay. config.json has one number of heads and one of
/// channels for all layers, so every layer keeps as many as the one that keeps most, and those of
/// its pruned ones that must stay are zeros. Where transformers wants hidden_size to be a multiple
/// of the heads (Llama, Gemma 2 and 3), a few more stay in the same way; encoders have no head_dim,
/// so all of their heads do.
class PrunedCheckpoint {
 public:
  /// @param kept     empty: nothing changes
  /// @param modules  the full model's linear layers
  /// @param config   config.json; the sizes that change are set
  /// @throws core::ConfigError  the masks are of another model
  PrunedCheckpoint(const tensors::KeptGroups& kept,
                   const std::map<std::string, models::LinearShape>& modules,
                   nlohmann::ordered_json& config);

  /// What stays of a tensor of the full model, by its name ("MODULE.weight").
  at::Tensor cut(const std::string& name, const at::Tensor& tensor) const;
  /// numel after ÷ before, as a fraction that `bytes` is multiplied by.
  std::uint64_t cut_bytes(const std::string& name, std::uint64_t bytes) const;

  /// One line for each kind of group that was pruned.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  /// Of one dimension.
  struct Choice {
    at::Tensor index;  ///< [kept] int64
    at::Tensor alive;  ///< [kept] bool, false where zeros stay
    std::int64_t before = 0;
  };
  using Blocks = std::vector<models::PrunableBlock>;
  void cut_kind(models::PrunableBlock::Kind kind, const Blocks& blocks,
                const tensors::KeptGroups& kept,
                const std::map<std::string, models::LinearShape>& modules,
                nlohmann::ordered_json& config);
  static std::int64_t groups_in_config(models::PrunableBlock::Kind kind, std::int64_t wanted,
                                       std::int64_t groups, const nlohmann::ordered_json& config);
  static Choice choose(const at::Tensor& kept, std::int64_t count, std::int64_t size);

  std::map<std::string, Choice> rows_;     ///< by module
  std::map<std::string, Choice> columns_;  ///< by module
  std::vector<std::string> notes_;
};

}  // namespace drystone::evaluation
