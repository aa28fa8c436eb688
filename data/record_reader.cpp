#include "data/record_reader.h"

#include "core/error.h"
#include "core/text.h"
#include "data/record_format.h"

namespace drystone::data {

namespace {

std::unique_ptr<RecordReader::Format> open_format(const std::filesystem::path& file,
                                                  const RecordFields& fields) {
  const bool is_gzipped = file.extension() == ".gz";
  const std::string extension = (is_gzipped ? file.stem() : file).extension().string();
  if (extension == ".jsonl" || extension == ".ndjson" || extension == ".json") {
    return make_jsonl_format(LineSource(file), fields);
  }
  if (extension == ".csv") return make_delimited_format(LineSource(file), fields, ',');
  if (extension == ".tsv") return make_delimited_format(LineSource(file), fields, '\t');
  throw core::ConfigError(file.string() + ": unknown data format " + core::quote(extension) +
                          "; use .jsonl, .csv or .tsv, each also with .gz");
}

}  // namespace

RecordReader::RecordReader(const std::filesystem::path& file, const RecordFields& fields)
    : format_(open_format(file, fields)) {}
RecordReader::~RecordReader() = default;
RecordReader::RecordReader(RecordReader&&) noexcept = default;
RecordReader& RecordReader::operator=(RecordReader&&) noexcept = default;

bool RecordReader::next(Record& record) { return format_->next(record); }

std::string RecordReader::where() const { return format_->where(); }

std::vector<Record> read_records(const std::filesystem::path& file, const RecordFields& fields) {
  RecordReader reader(file, fields);
  std::vector<Record> records;
  for (Record record; reader.next(record);) records.push_back(record);
  return records;
}

}  // namespace drystone::data
