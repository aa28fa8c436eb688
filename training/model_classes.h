#pragma once
// Which class is which output of a classifier: the model knows before the data does.

#include <filesystem>
#include <string>
#include <vector>

#include "core/config.h"

namespace drystone::training {

/// The classes that a head was trained for.
struct ModelClasses {
  std::vector<std::string> names;  ///< in the order of the outputs; empty: there is no head
  std::filesystem::path from;      ///< the file that says so
  bool is_named = false;           ///< false: nobody gave names, these are LABEL_0, LABEL_1, …
};

/// Of the adapter's head (labels.json beside it, else the base's id2label where it has as many),
/// else of the checkpoint's (id2label).
/// @param adapter  PEFT folder; empty: none
/// @throws core::ConfigError, core::IoError  unreadable, or labels.json of another length
ModelClasses model_classes(const std::filesystem::path& model,
                           const std::filesystem::path& adapter);

/// The federation's classes: data.labels, else those of model.adapter, else the checkpoint's where
/// data.train names no others (they may be more than the file's), else those in data.train.
/// @throws core::ConfigError  data.train has other classes than model.adapter; as
///                            data::resolve_labels
std::vector<std::string> resolve_classes(const core::Config& config);

}  // namespace drystone::training
