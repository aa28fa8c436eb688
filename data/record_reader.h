#pragma once
// Data files, record by record: JSON lines, CSV and TSV, each also gzipped.

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/record.h"

namespace drystone::data {

class RecordFormat;

/// Streams one file; holds one record's bytes at a time. The name's end decides the format, `.gz`
/// may follow:
///   .jsonl .ndjson .json  one JSON object a line (blank lines are skipped), or an array of them
///   .csv                  RFC 4180 with a header line: "quoted ""fields""", line breaks inside
///                         quotes
///   .tsv                  a header line, no quoting: every tab parts two fields
/// Text must be UTF-8 (a byte-order mark is skipped).
///
/// Classification and regression: a text, its label (may be missing) and, if asked for, the second
/// text of a pair. JSON may have `input_ids` (integers) for the text, a scalar `labels` for the
/// label.
///
/// Causal LM (fields.sequence): the first of these forms that a record has and the template wants
///   input_ids               JSON; with or without `labels`, as many integers, −100 = no loss
///   messages                JSON; [{role, content}], or as ShareGPT: conversations
///                           [{from, value}],
///                           or as TRL: prompt [{role, content}] and completion [{role, content}]
///   instruction and answer  instruction | question | prompt; input | context (may be missing);
///                           output | response | answer | completion
///   text                    fields.text; in JSON also a list of strings: one record for each
class RecordReader {
 public:
  /// @throws core::IoError      the file cannot be opened
  /// @throws core::ConfigError  an unknown format, or a header without the wanted fields
  RecordReader(const std::filesystem::path& file, const RecordFields& fields);
  ~RecordReader();
  RecordReader(RecordReader&&) noexcept;
  RecordReader& operator=(RecordReader&&) noexcept;

  /// Reads the next record, with its place, into `record`, reusing its memory.
  /// @return false at the end
  /// @throws core::ConfigError  `FILE:LINE: what is wrong; what to do`
  /// @throws core::IoError      reading failed, or a gzip file is damaged
  bool next(Record& record);

 private:
  std::unique_ptr<RecordFormat> format_;
};

/// The files that `pattern` names, ascending: those of a folder in a known format, or those whose
/// name fits a last part with `*` and `?` ("shards/client_*.jsonl.gz").
std::vector<std::filesystem::path> matching_files(const std::filesystem::path& pattern);
/// The same. @throws core::ConfigError  there is none
std::vector<std::filesystem::path> data_files(const std::filesystem::path& pattern);

/// All records of a file at once.
/// @throws as RecordReader
std::vector<Record> read_records(const std::filesystem::path& file, const RecordFields& fields);

}  // namespace drystone::data
