#include "data/json_records.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"

namespace drystone::data {

namespace {

constexpr const char* kBlank = " \t\r\n";

}  // namespace

Place JsonRecords::place() const {
  Place place = lines_.place(begin_);
  if (kind_ == Kind::Array) place.element = count_;
  return place;
}

void JsonRecords::fail(const std::string& problem) const {
  throw core::ConfigError(lines_.where(lines_.line()) + ": " + problem);
}

bool JsonRecords::next_line() {
  at_ = 0;
  return lines_.next(line_);
}

bool JsonRecords::next_filled_line() {
  do {
    if (!next_line()) return false;
    at_ = line_.find_first_not_of(kBlank);
  } while (at_ == std::string::npos);
  return true;
}

bool JsonRecords::next(nlohmann::ordered_json& value) {
  constexpr core::JsonLimits kLimits{
      .max_bytes = LineSource::kMaxRecordBytes,
      .non_finite = core::NonFinite::Null,
      .remedy = "write one complete JSON object a line, or an array of objects"};
  if (!next_text()) return false;
  ++count_;
  value = core::parse_ordered_json(text_, place().str(), kLimits);
  return true;
}

bool JsonRecords::next_text() {
  if (kind_ == Kind::Array) return next_element();
  if (!next_filled_line()) return false;
  if (kind_ == Kind::Unknown) {
    kind_ = line_[at_] == '[' ? Kind::Array : Kind::Lines;
    ++at_;
  }
  if (kind_ == Kind::Array) return next_element();
  begin_ = lines_.line();
  text_.swap(line_);
  return true;
}

/// Moves to the next element. @return false: the array ends
bool JsonRecords::begin_element() {
  for (;;) {
    at_ = line_.find_first_not_of(kBlank, at_);
    if (at_ != std::string::npos) break;
    if (!next_line()) fail("the array does not end; fetch the file again");
  }
  if (line_[at_] != ']') return true;
  ++at_;
  finish_array();
  return false;
}

void JsonRecords::finish_array() {
  is_over_ = true;
  do {
    if (line_.find_first_not_of(kBlank, at_) != std::string::npos) {
      fail("something follows the array; write one array, or one JSON object a line");
    }
  } while (next_line());
}

/// Whether `c`, the next character, is the first behind the element.
bool JsonRecords::ends_here(char c) {
  if (in_string_) {
    if (!is_escaped_ && c == '"') in_string_ = false;
    is_escaped_ = !is_escaped_ && c == '\\';
    return false;
  }
  if (depth_ == 0 && (c == ',' || c == ']')) return true;
  if (c == '"') in_string_ = true;
  if (c == '{' || c == '[') ++depth_;
  if ((c == '}' || c == ']') && depth_ > 0) --depth_;
  return false;
}

bool JsonRecords::next_element() {
  text_.clear();
  if (is_over_ || !begin_element()) return false;
  begin_ = lines_.line();
  for (;;) {
    const std::size_t from = at_;
    while (at_ < line_.size() && !ends_here(line_[at_])) ++at_;
    text_.append(line_, from, at_ - from);
    if (text_.size() > LineSource::kMaxRecordBytes) {
      fail("an element of the array is longer than 64 MiB; is this a data file?");
    }
    if (at_ < line_.size()) break;
    text_ += '\n';
    if (!next_line()) fail("the array does not end; fetch the file again");
  }
  if (line_[at_] == ',') ++at_;
  return true;
}

}  // namespace drystone::data
