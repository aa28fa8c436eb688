#include "tensors/checkpoint_writer.h"

#include <cstdio>
#include <span>

#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/files.h"
#include "tensors/safetensors_writer.h"

namespace drystone::tensors {
namespace {

using Shard = std::span<const PlannedTensor>;

std::vector<Shard> split(const std::vector<PlannedTensor>& plan, std::uint64_t max_shard_bytes) {
  std::vector<Shard> shards;
  std::size_t begin = 0;
  std::uint64_t size = 0;
  for (std::size_t i = 0; i < plan.size(); ++i) {
    if (i > begin && size + plan[i].num_bytes > max_shard_bytes) {
      shards.emplace_back(plan.data() + begin, i - begin);
      begin = i;
      size = 0;
    }
    size += plan[i].num_bytes;
  }
  shards.emplace_back(plan.data() + begin, plan.size() - begin);
  return shards;
}

std::string shard_name(std::size_t index, std::size_t count) {
  if (count == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

void write_index(const std::filesystem::path& folder, const std::vector<Shard>& shards) {
  std::uint64_t total = 0;
  nlohmann::json weight_map = nlohmann::json::object();
  for (std::size_t i = 0; i < shards.size(); ++i) {
    for (const PlannedTensor& planned : shards[i]) {
      weight_map[planned.name] = shard_name(i, shards.size());
      total += planned.num_bytes;
    }
  }
  const nlohmann::json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  core::write_file_atomic(folder / "model.safetensors.index.json",
                          core::as_bytes(index.dump(2) + "\n"));
}

}  // namespace

std::size_t write_checkpoint(const std::filesystem::path& folder,
                             const std::vector<PlannedTensor>& plan,
                             const std::function<at::Tensor(const std::string&)>& tensor,
                             std::uint64_t max_shard_bytes) {
  core::require(!plan.empty(), "write_checkpoint: no tensors");
  const std::vector<Shard> shards = split(plan, max_shard_bytes);
  for (std::size_t i = 0; i < shards.size(); ++i) {
    SafetensorsWriter writer(folder / shard_name(i, shards.size()), {{"format", "pt"}});
    for (const PlannedTensor& planned : shards[i]) {
      const at::Tensor value = tensor(planned.name);
      core::require(value.nbytes() == planned.num_bytes,
                    "write_checkpoint: " + planned.name + " has another size than planned");
      writer.add(planned.name, value);
    }
    writer.finish();
  }
  if (shards.size() > 1) write_index(folder, shards);
  return shards.size();
}

}  // namespace drystone::tensors
