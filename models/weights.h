#pragma once
// The tensors of a Hugging Face folder, and how a model family takes what it needs from them.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/model.h"
#include "tensors/checkpoint.h"

namespace drystone::models {

/// What a folder's safetensors files hold.
struct LoadedWeights {
  Weights tensors;                           ///< names as in the files
  std::vector<std::filesystem::path> files;  ///< in the order of their names: what a hash covers
  std::function<void()> forget_pages;  ///< gives the mapped files' memory back; they are read anew
};

/// The folder's model.safetensors or the shards of its model.safetensors.index.json.
/// @throws core::ConfigError  the folder has PyTorch's pickle format only
/// @throws core::IoError      no checkpoint, or a broken one; names the file
tensors::Checkpoint open_weights(const std::filesystem::path& folder);

/// Reads a checkpoint. Floating tensors that
/// have `dtype` already, and all of them without a `dtype`, are read-only views of the mapped file
/// (no copy; processes share the pages); others are converted. Integer tensors stay as they are.
LoadedWeights load_weights(const tensors::Checkpoint& checkpoint,
                           std::optional<at::ScalarType> dtype = at::kFloat);
/// The same of a folder. @throws as open_weights
LoadedWeights load_weights(const std::filesystem::path& folder,
                           std::optional<at::ScalarType> dtype = at::kFloat);

/// The same tensors on `device`; handles are shared where they are there already.
Weights to_device(const Weights& weights, at::Device device);

/// The tensor of this name in the full model ("bert.encoder.layer.0…"), which files may have
/// - without the base prefix, as a bare model is saved ("encoder.layer.0…"),
/// - with LayerNorm's old names gamma and beta.
/// @param base_prefix  e.g. "bert."
Weights::const_iterator find_weight(const Weights& weights, const std::string& name,
                                    std::string_view base_prefix);
Weights::iterator find_weight(Weights& weights, const std::string& name,
                              std::string_view base_prefix);

/// Gives a family its tensors by their names in the full model, as find_weight finds them, and
/// keeps account, so that one error can list everything that is wrong.
class WeightReader {
 public:
  /// @param weights      borrowed
  /// @param base_prefix  e.g. "bert."
  WeightReader(const Weights& weights, std::string_view base_prefix);

  /// The tensor; undefined and noted for `finish` if it is missing, has another shape or is not of
  /// floating-point numbers.
  at::Tensor take(const std::string& name, at::IntArrayRef shape);
  /// The tensor; undefined if there is none, or none of this shape.
  at::Tensor take_optional(const std::string& name, at::IntArrayRef shape);
  /// The shape that the checkpoint has under this name; empty if it has none.
  std::vector<std::int64_t> shape_of(const std::string& name) const;

  /// @throws core::ConfigError  `ORIGIN: …` with every tensor that was missing or misshapen
  void finish(const std::filesystem::path& origin) const;
  /// Tensors of the checkpoint that nobody took, ascending.
  std::vector<std::string> unexpected() const;

 private:
  Weights::const_iterator find(const std::string& name) const {
    return find_weight(weights_, name, base_prefix_);
  }

  const Weights& weights_;
  std::string base_prefix_;
  std::set<std::string> taken_;
  std::vector<std::string> missing_;
  std::vector<std::string> misshapen_;
};

}  // namespace drystone::models
