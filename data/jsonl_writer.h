#pragma once
// Writes records as JSON lines that RecordReader reads back to equal records.

#include <filesystem>
#include <fstream>
#include <span>

#include "data/record.h"

namespace drystone::data {

/// One file, streamed. Texts, ids, messages, label (with its type) and key are kept as they are.
/// Reals keep their exact value.
class JsonlWriter {
 public:
  /// Truncates or creates `file`. @throws core::IoError
  JsonlWriter(std::filesystem::path file, RecordFields fields);

  /// @throws core::InvalidArgument  text that is not UTF-8, or a label that is not finite
  void write(const Record& record);

  /// Flushes; call it at the end. @throws core::IoError  the disk is full or failed
  void close();

 private:
  std::filesystem::path file_;
  RecordFields fields_;
  std::ofstream stream_;
};

/// Writes all of `records`.
/// @throws as JsonlWriter
void write_jsonl(const std::filesystem::path& file, std::span<const Record> records,
                 const RecordFields& fields = {});

}  // namespace drystone::data
