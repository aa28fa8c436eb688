#pragma once
// Writing a Hugging Face checkpoint, in one file or in shards with an index.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace drystone::tensors {

struct PlannedTensor {
  std::string name;
  std::uint64_t num_bytes = 0;  ///< of what will be written
};

/// Writes FOLDER/model.safetensors; where all tensors together exceed `max_shard_bytes`,
/// model-00001-of-0000N.safetensors … and model.safetensors.index.json. A shard takes tensors in
/// the plan's order until the next would exceed the limit; a larger tensor has a shard of its own.
/// Memory holds one tensor at a time.
/// @param tensor  called once for each name, in order
/// @return        the number of weight files
/// @throws core::InvalidArgument  nothing to write, or a tensor of another size than planned
/// @throws core::IoError
std::size_t write_checkpoint(const std::filesystem::path& folder,
                             const std::vector<PlannedTensor>& plan,
                             const std::function<at::Tensor(const std::string&)>& tensor,
                             std::uint64_t max_shard_bytes);

}  // namespace drystone::tensors
