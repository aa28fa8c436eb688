#pragma once
// One example as a data file holds it.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "text/conversation.h"
#include "text/tokenizer.h"

namespace drystone::data {

/// None, a class by name, a class by number, or a regression target. CSV and TSV give names only;
/// JSON's true and false count as names.
using Label = std::variant<std::monostate, std::string, std::int64_t, double>;

inline bool is_absent(const Label& label) { return std::holds_alternative<std::monostate>(label); }

/// Named texts of an instruction record. The built-in templates know "instruction", "input" (may be
/// missing) and "output"; an own template has its own names.
using TextFields = std::map<std::string, std::string, std::less<>>;

/// Where a record began in its file.
struct Place {
  std::shared_ptr<const std::string> file;  ///< shared by all of its records; null: not of a file
  std::size_t line = 0;                     ///< from 1
  std::size_t element = 0;                  ///< of a JSON array, from 1; 0: not in one

  /// `FILE:LINE`, of an array's element `FILE:LINE: record N`: the head of messages about it; empty
  /// for a record of no file.
  std::string str() const;
};

/// Exactly one of text, input_ids, fields and messages holds the example.
struct Record {
  std::string text;
  std::optional<std::string> text_pair;     ///< the second text of a sentence pair
  std::vector<text::TokenId> input_ids;     ///< ready ids, special ones included
  std::vector<text::TokenId> token_labels;  ///< with input_ids: as many (−100: no loss), or none
  TextFields fields;
  std::vector<text::Message> messages;
  Label label;
  std::string key;  ///< value of the field that names the client; empty where none was asked for
  Place where;
};

/// What records of causal LM look like (docs/data.md).
struct SequenceFields {
  /// "auto" | "alpaca" | "dolly" | "plain" | "chat"; decides which of several forms in a record is
  /// meant. Without meaning if `names` is not empty.
  std::string prompt_template = "auto";
  /// An own template's fields and the answer's: exactly these are read, all must be there.
  std::vector<std::string> names;
};

/// Which fields of a data file matter.
struct RecordFields {
  std::string text = "text";
  std::string label = "label";
  std::string key;                         ///< empty: not read
  std::string text_pair;                   ///< empty: no sentence pairs
  std::optional<SequenceFields> sequence;  ///< absent: classification or regression
};

/// The class that a label names; absent for none and for a number with a fraction.
std::optional<std::string> class_name(const Label& label);

/// The number that a label is; absent for none and for text that is not a finite number.
std::optional<double> number(const Label& label);

}  // namespace drystone::data
