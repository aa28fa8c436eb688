#pragma once
// Folds an adapter into a Hugging Face checkpoint.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/cut_adapter.h"

namespace drystone::cli {

struct MergeOptions {
  std::filesystem::path model;                    ///< Hugging Face folder
  std::filesystem::path adapter;                  ///< PEFT folder
  std::filesystem::path out;                      ///< must not exist, or be empty
  std::uint64_t max_shard_bytes = 5'000'000'000;  ///< larger checkpoints are split
  AdapterCut cut;                                 ///< of the adapter, before it is folded in
};

struct MergeReport {
  std::size_t merged_modules = 0;
  std::size_t replaced_tensors = 0;  ///< heads
  std::size_t weight_files = 0;
  std::vector<std::string> notes;  ///< what a cut and pruning have done
};

/// Writes OUT with W + B·A in place of each adapted W, the adapter's head, and everything else of
/// the model's folder as it is; tied weights stay tied, as the checkpoint has them once. The sum is
/// formed in float32 and rounded once to the checkpoint's dtype. With a head the base becomes the
/// sequence-classification model that transformers loads; class names come from
/// ADAPTER/labels.json. What ADAPTER/pruning.json says is pruned is left out, and config.json says
/// so. Memory holds one tensor at a time.
/// @throws core::ConfigError  OUT holds files, or the adapter does not fit the model (names the
///                            module)
/// @throws core::IoError
MergeReport merge(const MergeOptions& options);

}  // namespace drystone::cli
