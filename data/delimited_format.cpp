// CSV (RFC 4180) and TSV, both with a header line.

#include <algorithm>
#include <limits>
#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "data/record_form.h"
#include "data/record_format.h"

namespace drystone::data {

namespace {

constexpr std::size_t kAbsent = std::numeric_limits<std::size_t>::max();

class DelimitedFormat final : public RecordFormat {
 public:
  DelimitedFormat(LineSource lines, const RecordFields& fields, char separator)
      : lines_(std::move(lines)), separator_(separator) {
    if (!read_row()) fail("empty file; the first line must name the fields");
    header_ = row_;
    for (auto name = header_.begin(); name != header_.end(); ++name) {
      if (std::find(header_.begin(), name, *name) != name) {
        fail("two fields are named " + core::quote(*name) + "; rename one");
      }
    }
    if (fields.sequence) {
      find_sequence(fields);
    } else {
      text_ = column(fields.text, "data.text_field");
    }
    if (!fields.text_pair.empty()) pair_ = column(fields.text_pair, "data.text_pair_field");
    label_ = has(fields.label) ? column(fields.label, "data.label_field") : kAbsent;
    key_ = fields.key.empty() ? kAbsent : column(fields.key, "data.partition_key");
  }

  bool next(Record& record) override {
    if (!read_row()) return false;
    if (row_.size() != header_.size()) {
      fail(std::to_string(row_.size()) + " fields where the header names " +
           std::to_string(header_.size()) + "; put fields that hold the separator into quotes");
    }
    record.input_ids.clear();
    if (text_ != kAbsent) record.text = row_[text_];
    if (pair_ != kAbsent) record.text_pair = row_[pair_];
    for (const auto& [name, place] : named_) record.fields[name] = row_[place];
    record.label = label_ == kAbsent || row_[label_].empty() ? Label() : Label(row_[label_]);
    if (key_ != kAbsent) record.key = row_[key_];
    return true;
  }

  Place place() const override { return lines_.place(row_line_); }

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw core::ConfigError(place().str() + ": " + problem);
  }

  bool has(const std::string& name) const {
    return std::find(header_.begin(), header_.end(), name) != header_.end();
  }

  void find_sequence(const RecordFields& fields) {
    const auto form = find_form(fields, [this](const std::string& name) { return has(name); });
    if (!form) fail("the header names " + core::join(header_) + ", but " + wanted_form(fields));
    switch (form->kind) {
      case RecordForm::Kind::Text: text_ = column(form->source, "data.text_field"); break;
      case RecordForm::Kind::Fields:
        for (const auto& [source, name] : form->fields) {
          named_.emplace_back(name, column(source, "data.template"));
        }
        break;
      default: fail(form->source + " need JSON; use a .jsonl file");
    }
  }

  std::size_t column(const std::string& name, const std::string& setting) const {
    const auto found = std::find(header_.begin(), header_.end(), name);
    if (found != header_.end()) return static_cast<std::size_t>(found - header_.begin());
    fail("no field " + core::quote(name) + " in the header (found: " + core::join(header_) +
         "); set " + setting);
  }

  /// Reads one logical row, blank lines left out. @return false at the end of the file
  bool read_row() {
    row_.clear();
    do {
      if (!next_line()) return false;
    } while (line_.empty());
    row_line_ = lines_.line();
    for (std::size_t position = 0; position <= line_.size(); ++position) {
      row_.emplace_back();
      position = is_quoted(position) ? read_quoted(position) : read_plain(position);
    }
    return true;
  }

  bool next_line() {
    if (!lines_.next(line_)) return false;
    has_carriage_return_ = line_.ends_with('\r');
    if (has_carriage_return_) line_.pop_back();
    return true;
  }

  bool is_quoted(std::size_t position) const {
    return separator_ == ',' && position < line_.size() && line_[position] == '"';
  }

  /// @return the position of the separator behind the field, or the line's size
  std::size_t read_plain(std::size_t position) {
    const std::size_t end = std::min(line_.find(separator_, position), line_.size());
    row_.back().assign(line_, position, end - position);
    if (separator_ == ',' && row_.back().find('"') != std::string::npos) {
      fail("a quote inside an unquoted field; put the field into quotes and double those inside");
    }
    return end;
  }

  std::size_t read_quoted(std::size_t position) {
    const std::size_t first_line = lines_.line();
    std::string& field = row_.back();
    ++position;
    for (;;) {
      const std::size_t quote = line_.find('"', position);
      if (quote == std::string::npos) {
        field.append(line_, position);
        field += has_carriage_return_ ? "\r\n" : "\n";
        if (field.size() > LineSource::kMaxRecordBytes || !next_line()) {
          row_line_ = first_line;
          fail("a quoted field is never closed; add the missing quote");
        }
        position = 0;
        continue;
      }
      field.append(line_, position, quote - position);
      position = quote + 1;
      if (position == line_.size() || line_[position] == separator_) return position;
      if (line_[position] != '"') fail("text behind a closing quote; double the quotes inside");
      field += '"';
      ++position;
    }
  }

  LineSource lines_;
  char separator_;
  std::string line_;
  bool has_carriage_return_ = false;
  std::size_t row_line_ = 1;
  std::vector<std::string> header_;
  std::vector<std::string> row_;
  std::size_t text_ = kAbsent;
  std::size_t pair_ = kAbsent;
  std::vector<std::pair<std::string, std::size_t>> named_;  ///< Record::fields → column
  std::size_t label_ = kAbsent;
  std::size_t key_ = kAbsent;
};

}  // namespace

std::unique_ptr<RecordFormat> make_delimited_format(LineSource lines, const RecordFields& fields,
                                                    char separator) {
  return std::make_unique<DelimitedFormat>(std::move(lines), fields, separator);
}

}  // namespace drystone::data
