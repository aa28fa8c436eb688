#pragma once
// The values of a JSON file one by one: one a line, or the elements of one array.

#include <cstddef>
#include <string>
#include <utility>

#include <nlohmann/json_fwd.hpp>

#include "data/line_source.h"

namespace drystone::data {

/// The file's first character decides: "[" begins an array, whose elements may span lines.
/// Otherwise every line that is not blank is a value. Holds one value's text at a time.
class JsonRecords {
 public:
  explicit JsonRecords(LineSource lines) : lines_(std::move(lines)) {}

  /// Reads the next value, NaN as null. @return false at the end
  /// @throws core::ConfigError  not JSON, or beyond core::JsonLimits; an array that does not end,
  ///                            or with something behind it; a value of more than
  ///                            LineSource::kMaxRecordBytes
  /// @throws as LineSource::next
  bool next(nlohmann::ordered_json& value);

  /// Where the last value began.
  Place place() const;

 private:
  enum class Kind { Unknown, Lines, Array };

  [[noreturn]] void fail(const std::string& problem) const;
  bool next_line();
  bool next_filled_line();
  bool next_text();
  bool next_element();
  bool begin_element();
  bool ends_here(char c);
  void finish_array();

  LineSource lines_;
  Kind kind_ = Kind::Unknown;
  bool is_over_ = false;
  std::string line_;
  std::string text_;       ///< of the value
  std::size_t at_ = 0;     ///< in the line, of what was not read yet
  std::size_t begin_ = 0;  ///< line
  std::size_t count_ = 0;  ///< values read
  std::size_t depth_ = 0;  ///< of brackets within the element
  bool in_string_ = false;
  bool is_escaped_ = false;
};

}  // namespace drystone::data
