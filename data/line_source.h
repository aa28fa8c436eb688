#pragma once
// Lines of a plain or gzipped UTF-8 text file. Private to this folder.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/record.h"

namespace drystone::data {

class LineSource {
 public:
  /// @throws core::IoError  the file cannot be opened
  explicit LineSource(const std::filesystem::path& file);

  /// Reads up to the next line feed, which is left out; a byte-order mark before the first line
  /// too.
  /// @return false at the end of the file
  /// @throws core::IoError      a read failed or a gzip stream is damaged
  /// @throws core::ConfigError  not UTF-8, a line longer than kMaxRecordBytes, or 256 MiB that were
  ///                            packed to less than a two-hundredth
  bool next(std::string& line);

  /// Number of the last line read, from 1.
  std::size_t line() const { return line_; }
  Place place(std::size_t line) const { return {.file = file_, .line = line}; }
  /// `FILE:line`.
  std::string where(std::size_t line) const { return place(line).str(); }

  /// A longer line or quoted field is a binary file or a lost quote, not text.
  static constexpr std::size_t kMaxRecordBytes = std::size_t{64} << 20;

 private:
  struct Closer {
    void operator()(void* file) const;
  };

  bool refill();
  /// A small file must not unpack to what fills the memory.
  void check_ratio();
  void check_text(std::string& line);

  std::shared_ptr<const std::string> file_;
  std::unique_ptr<void, Closer> handle_;  ///< zlib's gzFile
  std::vector<char> buffer_;
  std::size_t position_ = 0;
  std::size_t filled_ = 0;
  std::size_t line_ = 0;
  std::uint64_t total_ = 0;  ///< bytes read, unpacked
};

}  // namespace drystone::data
