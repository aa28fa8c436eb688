#include "training/model_classes.h"

#include <algorithm>
#include <cstdint>

#include "core/error.h"
#include "core/log.h"
#include "core/text.h"
#include "data/classes_in.h"
#include "data/label_map.h"
#include "models/family_names.h"
#include "models/hf_config.h"
#include "tensors/adapter_labels.h"
#include "tensors/peft_io.h"

namespace drystone::training {

namespace fs = std::filesystem;

namespace {

/// id2label where it has so many names, else LABEL_0, ….
ModelClasses described(const models::HfConfig& config, std::int64_t rows) {
  ModelClasses classes{.names = config.label_names(), .from = config.file()};
  if (static_cast<std::int64_t>(classes.names.size()) != rows) classes.names.clear();
  std::vector<std::string> generic;
  for (std::int64_t id = 0; id < rows; ++id) generic.push_back("LABEL_" + std::to_string(id));
  classes.is_named = !classes.names.empty() && classes.names != generic;
  if (classes.names.empty()) classes.names = generic;
  return classes;
}

/// Rows of the adapter's own head; 0: it has none.
std::int64_t rows_of_adapter(const models::HfConfig& config, const fs::path& adapter) {
  const models::FamilyNames* const names = models::family_names(config.model_type());
  if (adapter.empty() || names == nullptr) return 0;
  const auto shape = tensors::saved_shape(adapter, std::string(names->head) + ".weight");
  return shape.empty() ? 0 : shape.front();
}

bool names_all(const data::LabelMap& map, const std::vector<std::string>& found) {
  return std::all_of(found.begin(), found.end(), [&](const std::string& name) {
    return map.id(data::Label(name)).has_value();
  });
}

std::vector<std::string> classes_of_adapter(const core::Config& config,
                                            std::vector<std::string> names) {
  const auto found = data::classes_in(config.data);
  if (names_all(data::LabelMap(names), found)) return names;
  throw core::config_error(config, "model.adapter",
                           (config.model.adapter / tensors::kLabelsFile).string() + " lists " +
                               core::join(names) + ", but data.train has " + core::join(found) +
                               "; start from another adapter or from none");
}

}  // namespace

ModelClasses model_classes(const fs::path& model, const fs::path& adapter) {
  const auto config = models::HfConfig::load(model);
  const std::int64_t own_rows = rows_of_adapter(config, adapter);
  if (const auto names = tensors::read_labels(adapter)) {
    ModelClasses classes{.names = *names, .from = adapter / tensors::kLabelsFile, .is_named = true};
    if (own_rows > 0 && static_cast<std::int64_t>(names->size()) != own_rows) {
      throw core::ConfigError(classes.from.string() + ": has " + std::to_string(names->size()) +
                              " names, but the adapter's head has " + std::to_string(own_rows) +
                              " labels");
    }
    return classes;
  }
  const std::int64_t rows = own_rows > 0 ? own_rows : models::head_rows(model);
  return rows == 0 ? ModelClasses{} : described(config, rows);
}

std::vector<std::string> resolve_classes(const core::Config& config) {
  if (!config.data.labels.empty()) return data::resolve_labels(config.data).names();
  const fs::path& adapter = config.model.adapter;
  if (const auto names = tensors::read_labels(adapter)) return classes_of_adapter(config, *names);
  const ModelClasses own = model_classes(config.model.path, adapter);
  if (own.names.size() < 2) return data::resolve_labels(config.data).names();
  const auto found = data::classes_in(config.data);
  const data::LabelMap map(own.names);
  if (!names_all(map, found)) return data::resolve_labels(config.data).names();
  core::log_info("classes as the model's head has them",
                 {{"from", own.from.string()}, {"classes", core::join(own.names)}});
  if (own.is_named) return own.names;
  std::vector<std::string> numbers;
  for (std::size_t id = 0; id < own.names.size(); ++id) numbers.push_back(std::to_string(id));
  return numbers;
}

}  // namespace drystone::training
