#pragma once
// Class names and their ids.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "data/record.h"

namespace drystone::data {

/// What to do about a record without a label.
inline constexpr const char* kNoLabelRemedy =
    "set data.label_field, or model.task: \"regression\" for numbers, \"causal-lm\" for texts that "
    "a "
    "language model learns";

/// Ids are positions in `names`. Immutable.
class LabelMap {
 public:
  /// @throws core::ConfigError  fewer than two names, or one twice
  explicit LabelMap(std::vector<std::string> names);

  std::int64_t size() const { return static_cast<std::int64_t>(names_.size()); }
  const std::vector<std::string>& names() const { return names_; }
  std::optional<std::int64_t> id(const Label& label) const;

 private:
  std::vector<std::string> names_;
  std::map<std::string, std::int64_t, std::less<>> ids_;
};

/// `config.labels` where it is given, else the classes found in `config.train`: sorted by number if
/// all are integers, by bytes otherwise.
/// @throws core::ConfigError  a line without a class, more than 10,000 classes, or fewer than two
LabelMap resolve_labels(const core::DataConfig& config);

}  // namespace drystone::data
