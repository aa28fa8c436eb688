#pragma once
// A Hugging Face checkpoint: one safetensors file, or several with an index.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tensors/safetensors.h"

namespace drystone::tensors {

/// Any number of threads may read at once.
class Checkpoint {
 public:
  Checkpoint(std::filesystem::path folder, std::vector<SafetensorsFile> files);

  const std::filesystem::path& folder() const { return folder_; }
  /// All tensor names, ascending.
  std::vector<std::string> names() const;
  bool contains(const std::string& name) const { return file_of_.contains(name); }
  /// As SafetensorsFile::tensor: a read-only view where possible.
  /// @throws core::IoError  no tensor of that name; names the folder
  at::Tensor tensor(const std::string& name) const;
  const TensorInfo& info(const std::string& name) const;
  /// The checkpoint's files, in the order of their names.
  const std::vector<SafetensorsFile>& files() const { return files_; }

 private:
  const SafetensorsFile& file_of(const std::string& name) const;

  std::filesystem::path folder_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, std::size_t> file_of_;
};

/// Opens FOLDER/model.safetensors, or the shards that FOLDER/model.safetensors.index.json lists,
/// which may lie in sub-folders. What the index names beyond the shards' tensors does not matter.
/// @throws core::IoError  neither exists (says what is there instead); a shard is missing, invalid
///                        or lies outside the folder; a tensor stands in two shards
Checkpoint open_checkpoint(const std::filesystem::path& folder);

}  // namespace drystone::tensors
