#pragma once
// Folds an adapter into a Hugging Face checkpoint.

#include <filesystem>
#include <string>
#include <vector>

namespace drystone::cli {

struct MergeOptions {
  std::filesystem::path model;    ///< Hugging Face folder
  std::filesystem::path adapter;  ///< PEFT folder
  std::filesystem::path out;      ///< must not exist, or be empty
};

struct MergeReport {
  std::size_t merged_modules = 0;
  std::size_t replaced_tensors = 0;  ///< heads
};

/// Writes OUT with W + B·A in place of each adapted W, the adapter's head, and everything else of
/// the model's folder as it is (weights in model.safetensors, whatever the shards were). The sum is
/// formed in float32 and rounded once to the checkpoint's dtype. A bare encoder with a head becomes
/// the sequence-classification model that transformers loads; class names come from
/// ADAPTER/labels.json.
/// @throws core::ConfigError  OUT holds files, or the adapter does not fit the model (names the
///                            module)
/// @throws core::IoError
MergeReport merge(const MergeOptions& options);

}  // namespace drystone::cli
