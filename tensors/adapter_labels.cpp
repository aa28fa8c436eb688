#include "tensors/adapter_labels.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/json_object.h"

namespace drystone::tensors {

std::optional<std::vector<std::string>> read_labels(const std::filesystem::path& adapter) {
  const std::filesystem::path file = adapter / kLabelsFile;
  if (adapter.empty() || !std::filesystem::exists(file)) return std::nullopt;
  const nlohmann::ordered_json list = core::read_ordered_json(file);
  const auto is_text = [](const auto& one) { return one.is_string(); };
  if (!list.is_array() || !std::ranges::all_of(list, is_text)) {
    throw core::ConfigError(file.string() + ": must be a list of strings, is " + core::shown(list));
  }
  return list.get<std::vector<std::string>>();
}

void write_labels(const std::filesystem::path& adapter, const std::vector<std::string>& labels) {
  const nlohmann::json json = labels;
  core::write_file_atomic(adapter / kLabelsFile, core::as_bytes(json.dump() + "\n"));
}

}  // namespace drystone::tensors
