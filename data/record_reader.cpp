#include "data/record_reader.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fnmatch.h>

#include "core/error.h"
#include "core/text.h"
#include "data/record_format.h"

namespace drystone::data {

namespace {

/// ".jsonl" of "train.jsonl.gz".
std::string format_of(const std::filesystem::path& file) {
  const bool is_gzipped = file.extension() == ".gz";
  return (is_gzipped ? file.stem() : file).extension().string();
}

std::unique_ptr<RecordFormat> open_format(const std::filesystem::path& file,
                                          const RecordFields& fields) {
  LineSource source(file);
  const std::string extension = format_of(file);
  if (extension == ".jsonl" || extension == ".ndjson" || extension == ".json") {
    return make_jsonl_format(JsonRecords(std::move(source)), fields);
  }
  if (extension == ".csv") return make_delimited_format(std::move(source), fields, ',');
  if (extension == ".tsv") return make_delimited_format(std::move(source), fields, '\t');
  throw core::ConfigError(file.string() + ": unknown data format " + core::quote(extension) +
                          "; use .jsonl, .csv or .tsv, each also with .gz");
}

}  // namespace

RecordReader::RecordReader(const std::filesystem::path& file, const RecordFields& fields)
    : format_(open_format(file, fields)) {}
RecordReader::~RecordReader() = default;
RecordReader::RecordReader(RecordReader&&) noexcept = default;
RecordReader& RecordReader::operator=(RecordReader&&) noexcept = default;

bool RecordReader::next(Record& record) {
  if (!format_->next(record)) return false;
  record.where = format_->place();
  return true;
}

std::vector<std::filesystem::path> matching_files(const std::filesystem::path& pattern) {
  constexpr std::array kFormats = {".jsonl", ".ndjson", ".json", ".csv", ".tsv"};
  const bool is_folder = std::filesystem::is_directory(pattern);
  const std::filesystem::path folder = is_folder ? pattern : pattern.parent_path();
  const std::string name = pattern.filename().string();
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::filesystem::path& file = entry.path();
    const bool fits = is_folder ? std::ranges::count(kFormats, format_of(file)) > 0
                                : fnmatch(name.c_str(), file.filename().c_str(), 0) == 0;
    if (fits && entry.is_regular_file()) files.push_back(file);
  }
  std::ranges::sort(files);
  return files;
}

std::vector<std::filesystem::path> data_files(const std::filesystem::path& pattern) {
  auto files = matching_files(pattern);
  if (!files.empty()) return files;
  throw core::ConfigError(pattern.string() +
                          ": no data file there; name one that exists, a folder, or files as in "
                          "folder/client_*.jsonl");
}

std::vector<Record> read_records(const std::filesystem::path& file, const RecordFields& fields) {
  RecordReader reader(file, fields);
  std::vector<Record> records;
  for (Record record; reader.next(record);) records.push_back(record);
  return records;
}

}  // namespace drystone::data
