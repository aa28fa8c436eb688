#include "models/weights.h"

#include <algorithm>
#include <array>
#include <span>
#include <sstream>
#include <utility>

#include <c10/core/ScalarType.h>

#include "core/error.h"
#include "core/text.h"
#include "tensors/checkpoint.h"

namespace drystone::models {
namespace {

/// Refuses a folder that only has the pickle format, with the way out of it.
void refuse_pickles(const std::filesystem::path& folder) {
  constexpr std::array kSafe = {"model.safetensors", "model.safetensors.index.json"};
  constexpr std::array kPickles = {"pytorch_model.bin", "pytorch_model.bin.index.json"};
  const auto has = [&](const char* name) { return std::filesystem::exists(folder / name); };
  if (std::any_of(kSafe.begin(), kSafe.end(), has)) return;
  const auto* const pickle = std::find_if(kPickles.begin(), kPickles.end(), has);
  if (pickle == kPickles.end()) return;
  throw core::ConfigError(
      (folder / *pickle).string() +
      ": a pickle can run code when it is read, so it is not; convert it with transformers: "
      "AutoModel.from_pretrained(DIR).save_pretrained(OUT, safe_serialization=True)");
}

std::string shape_text(at::IntArrayRef shape) {
  std::ostringstream text;
  text << shape;
  return text.str();
}

/// At most `limit` of the names, and how many more there are.
std::string listed(std::vector<std::string> names, std::size_t limit = 8) {
  const std::size_t total = names.size();
  names.resize(std::min(total, limit));
  std::string text = core::join(names);
  if (total > limit) text += " and " + std::to_string(total - limit) + " more";
  return text;
}

/// "…LayerNorm.weight" → "…LayerNorm.gamma", "…LayerNorm.bias" → "…LayerNorm.beta", others → "".
std::string old_name(const std::string& name) {
  constexpr std::array<std::array<std::string_view, 2>, 2> kRenamed = {
      {{"LayerNorm.weight", "LayerNorm.gamma"}, {"LayerNorm.bias", "LayerNorm.beta"}}};
  for (const auto& [now, then] : kRenamed) {
    if (name.ends_with(now)) {
      return name.substr(0, name.size() - now.size()) + std::string(then);
    }
  }
  return {};
}

}  // namespace

tensors::Checkpoint open_weights(const std::filesystem::path& folder) {
  refuse_pickles(folder);
  return tensors::open_checkpoint(folder);
}

LoadedWeights load_weights(const std::filesystem::path& folder,
                           std::optional<at::ScalarType> dtype) {
  return load_weights(open_weights(folder), dtype);
}

LoadedWeights load_weights(const tensors::Checkpoint& checkpoint,
                           std::optional<at::ScalarType> dtype) {
  LoadedWeights loaded;
  for (const std::string& name : checkpoint.names()) {
    const at::Tensor tensor = checkpoint.tensor(name);
    const bool converts = dtype && tensor.is_floating_point() && tensor.scalar_type() != *dtype;
    loaded.tensors.emplace(name, converts ? tensor.to(*dtype) : tensor);
  }
  for (const auto& file : checkpoint.files()) loaded.files.push_back(file.path());
  loaded.forget_pages = [files = checkpoint.files()] {
    for (const tensors::SafetensorsFile& file : files) file.forget_pages();
  };
  return loaded;
}

Weights to_device(const Weights& weights, at::Device device) {
  Weights moved;
  for (const auto& [name, tensor] : weights) moved.emplace(name, tensor.to(device));
  return moved;
}

Weights::const_iterator find_weight(const Weights& weights, const std::string& name,
                                    std::string_view base_prefix) {
  std::vector<std::string> spellings = {name};
  if (name.starts_with(base_prefix)) spellings.push_back(name.substr(base_prefix.size()));
  for (std::size_t i = 0, count = spellings.size(); i < count; ++i) {
    if (std::string old = old_name(spellings[i]); !old.empty()) spellings.push_back(std::move(old));
  }
  for (const std::string& spelling : spellings) {
    if (const auto found = weights.find(spelling); found != weights.end()) return found;
  }
  return weights.end();
}

Weights::iterator find_weight(Weights& weights, const std::string& name,
                              std::string_view base_prefix) {
  const auto found = find_weight(std::as_const(weights), name, base_prefix);
  return found == weights.end() ? weights.end() : weights.find(found->first);
}

WeightReader::WeightReader(const Weights& weights, std::string_view base_prefix)
    : weights_(weights), base_prefix_(base_prefix) {}

at::Tensor WeightReader::take(const std::string& name, at::IntArrayRef shape) {
  const auto found = find(name);
  if (found == weights_.end()) {
    missing_.push_back(name);
    return {};
  }
  taken_.insert(found->first);
  if (!found->second.is_floating_point()) {
    misshapen_.push_back(name + " holds " + c10::toString(found->second.scalar_type()) +
                         " instead of floating-point numbers");
    return {};
  }
  if (found->second.sizes() == shape) return found->second;
  misshapen_.push_back(name + " is " + shape_text(found->second.sizes()) + " instead of " +
                       shape_text(shape));
  return {};
}

at::Tensor WeightReader::take_optional(const std::string& name, at::IntArrayRef shape) {
  return shape_of(name) == shape ? take(name, shape) : at::Tensor();
}

std::vector<std::int64_t> WeightReader::shape_of(const std::string& name) const {
  const auto found = find(name);
  return found == weights_.end() ? std::vector<std::int64_t>() : found->second.sizes().vec();
}

void WeightReader::finish(const std::filesystem::path& origin) const {
  if (missing_.empty() && misshapen_.empty()) return;
  std::string problem = origin.string() + ": the weights do not fit config.json:";
  if (!missing_.empty()) problem += " missing are " + listed(missing_) + ";";
  if (!misshapen_.empty()) problem += " " + listed(misshapen_) + ";";
  if (const auto others = unexpected(); !others.empty()) {
    problem += " not used are " + listed(others) + ";";
  }
  throw core::ConfigError(problem + " use the config.json and weights of one and the same model");
}

std::vector<std::string> WeightReader::unexpected() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : weights_) {
    if (!taken_.contains(name)) names.push_back(name);
  }
  return names;
}

}  // namespace drystone::models
