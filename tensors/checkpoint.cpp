#include "tensors/checkpoint.h"

#include <algorithm>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json_object.h"
#include "core/text.h"

namespace drystone::tensors {
namespace {

/// Tensor name → shard file name.
std::map<std::string, std::string> read_index(const std::filesystem::path& index) {
  constexpr core::JsonLimits kLimits{.max_bytes = 1 << 26};
  const auto map = core::JsonObject::read(index, kLimits).section("weight_map");
  if (!map) throw core::IoError(index.string() + ": is no index: it needs an object weight_map");
  std::map<std::string, std::string> shard_of;
  for (const auto& [name, shard] : map->json().items()) {
    if (!shard.is_string()) map->fail(core::quote(name), "must be a file name");
    const std::filesystem::path file = shard.get<std::string>();
    const bool climbs = std::find(file.begin(), file.end(), "..") != file.end();
    if (!file.has_filename() || file.is_absolute() || climbs || file == ".") {
      map->fail(core::quote(name), core::shown(shard) + " is not a file of this folder");
    }
    shard_of.emplace(name, file.string());
  }
  return shard_of;
}

Checkpoint open_shards(const std::filesystem::path& folder, const std::filesystem::path& index) {
  const auto shard_of = read_index(index);
  std::map<std::string, std::size_t> position_of;
  for (const auto& [name, shard] : shard_of) position_of.emplace(shard, 0);
  std::vector<SafetensorsFile> files;
  for (auto& [shard, position] : position_of) {
    position = files.size();
    files.emplace_back(folder / shard);
  }
  return {folder, std::move(files)};
}

/// The first file that looks like weights under a name that nothing reads; empty: none.
std::string stray_weights(const std::filesystem::path& folder) {
  std::set<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".safetensors")) names.insert(name);
  }
  return names.empty() ? std::string() : *names.begin();
}

[[noreturn]] void refuse_missing(const std::filesystem::path& folder) {
  const std::string stray = stray_weights(folder);
  const std::string start = folder.string() + ": ";
  if (stray.find("-of-") != std::string::npos) {
    throw core::IoError(start + "holds shards (" + stray +
                        " …) but not model.safetensors.index.json, which says what is in which; "
                        "download that file beside them");
  }
  if (stray.starts_with("adapter_model")) {
    throw core::IoError(start +
                        "is an adapter, not a model; name the base model here and this folder by "
                        "--adapter or model.adapter");
  }
  if (!stray.empty()) {
    throw core::IoError(start + "holds " + stray +
                        " but no model.safetensors; rename it if it is the whole model");
  }
  throw core::IoError(start +
                      "holds neither model.safetensors nor model.safetensors.index.json; convert "
                      "the checkpoint to safetensors");
}

}  // namespace

Checkpoint::Checkpoint(std::filesystem::path folder, std::vector<SafetensorsFile> files)
    : folder_(std::move(folder)), files_(std::move(files)) {
  for (std::size_t i = 0; i < files_.size(); ++i) {
    for (const auto& [name, info] : files_[i].header().tensors) {
      if (!file_of_.emplace(name, i).second) {
        throw core::IoError(folder_.string() + ": tensor " + core::quote(name) +
                            " stands in two shards");
      }
    }
  }
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  names.reserve(file_of_.size());
  for (const auto& [name, file] : file_of_) names.push_back(name);
  return names;
}

at::Tensor Checkpoint::tensor(const std::string& name) const { return file_of(name).tensor(name); }

const TensorInfo& Checkpoint::info(const std::string& name) const {
  return file_of(name).header().tensors.at(name);
}

const SafetensorsFile& Checkpoint::file_of(const std::string& name) const {
  const auto found = file_of_.find(name);
  if (found == file_of_.end()) {
    throw core::IoError(folder_.string() + ": the checkpoint holds no tensor " + core::quote(name));
  }
  return files_[found->second];
}

Checkpoint open_checkpoint(const std::filesystem::path& folder) {
  const auto single = folder / "model.safetensors";
  if (std::filesystem::exists(single)) {
    std::vector<SafetensorsFile> files;
    files.emplace_back(single);
    return {folder, std::move(files)};
  }
  const auto index = folder / "model.safetensors.index.json";
  if (std::filesystem::exists(index)) return open_shards(folder, index);
  refuse_missing(folder);
}

}  // namespace drystone::tensors
