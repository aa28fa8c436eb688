#pragma once
// One example as a data file holds it.

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "data/tokenizer.h"

namespace drystone::data {

/// None, a class by name, a class by number, or a regression target. CSV and TSV give names only;
/// JSON's true and false count as names.
using Label = std::variant<std::monostate, std::string, std::int64_t, double>;

struct Record {
  std::string text;
  std::vector<TokenId> input_ids;  ///< ready ids, special ones included; then `text` is empty
  Label label;
  std::string key;  ///< value of the field that names the client; empty where none was asked for
};

/// Which fields of a data file matter.
struct RecordFields {
  std::string text = "text";
  std::string label = "label";
  std::string key;  ///< empty: not read
};

/// The class that a label names; absent for none and for a number with a fraction.
std::optional<std::string> class_name(const Label& label);

/// The number that a label is; absent for none and for text that is not a finite number.
std::optional<double> number(const Label& label);

}  // namespace drystone::data
