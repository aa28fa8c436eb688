#pragma once
// Which form of a causal-LM record is meant, by the names of its fields. Private to this folder.

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/record.h"

namespace drystone::data {

struct RecordForm {
  enum class Kind { Ids, Messages, Fields, Text };
  Kind kind = Kind::Text;
  std::string source;  ///< Messages and Text: the field that holds them
  /// Fields: name in the file → name in Record::fields.
  std::vector<std::pair<std::string, std::string>> fields;
};

/// The form of a record that has the fields for which `has` is true; absent if it is none that the
/// template wants. `fields.sequence` must be set.
std::optional<RecordForm> find_form(const RecordFields& fields,
                                    const std::function<bool(const std::string&)>& has);

/// For messages: what a record should hold instead, and the remedy.
std::string wanted_form(const RecordFields& fields);

/// Role names of ShareGPT files → those of chat templates: human → user, gpt → assistant.
std::string chat_role(const std::string& name);

}  // namespace drystone::data
