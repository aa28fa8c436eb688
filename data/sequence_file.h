#pragma once
// Encoded examples of causal LM in a file, read through a mapping: data sets larger than memory.

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/mapped_file.h"
#include "data/cut_texts.h"
#include "text/token_id.h"

namespace drystone::data {

/// Names what a file was made from. Not cryptographic: it tells accidents, not attacks.
struct Fingerprint {
  std::array<std::uint64_t, 2> words = {};

  bool operator==(const Fingerprint&) const = default;
  /// 32 hexadecimal digits.
  std::string hex() const;
};

/// Collects the bytes that a fingerprint stands for; how they are cut into pieces matters.
class FingerprintMaker {
 public:
  void add(std::string_view bytes);
  /// Its bytes. @throws core::IoError
  void add_file(const std::filesystem::path& file);
  Fingerprint finish() const { return state_; }

 private:
  Fingerprint state_ = {{0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F}};
};

/// Layout, little endian: a header of 88 bytes; for each example its ids and then its labels (int32
/// each); the table of where they begin, in tokens (uint64, one more than examples); for each
/// example the length (uint32) and bytes of its key, or nothing at all.
/// Any number of threads may read at once. The file must not be changed while it is open.
class SequenceFile {
 public:
  /// Maps and checks everything: sizes before use, the checksum of table and keys, every id and
  /// label against the vocabulary (one pass over the file, in bounded memory).
  /// @throws core::IoError  unreadable, damaged, cut short, or made from something else
  SequenceFile(const std::filesystem::path& file, const Fingerprint& made_from,
               std::int64_t vocab_size);

  std::size_t size() const { return starts_.size() - 1; }
  std::size_t num_tokens() const { return starts_.back(); }
  std::size_t length(std::size_t example) const { return starts_[example + 1] - starts_[example]; }
  std::span<const text::TokenId> ids(std::size_t example) const {
    return tokens_.subspan(2 * starts_[example], length(example));
  }
  std::span<const text::TokenId> labels(std::size_t example) const {
    return tokens_.subspan(2 * starts_[example] + length(example), length(example));
  }
  /// By example; empty if the file has none.
  std::vector<std::string> keys() const;
  /// Records that had nothing to learn and are not here.
  std::size_t num_skipped() const { return num_skipped_; }
  /// What max_length took from those that are here.
  const CutTexts& cut() const { return cut_; }

 private:
  [[noreturn]] void fail(const std::string& problem) const;
  void read_layout(const Fingerprint& made_from);
  void check_starts() const;
  void check_tokens(std::int64_t vocab_size) const;

  std::filesystem::path path_;
  core::MappedFile mapping_;
  std::span<const text::TokenId> tokens_;
  std::span<const std::uint64_t> starts_;
  core::ByteView keys_;
  std::size_t num_skipped_ = 0;
  CutTexts cut_;
};

/// Writes such a file beside its name and moves it there in the end: readers see all or nothing.
class SequenceFileWriter {
 public:
  /// Folders are made. @throws core::IoError
  SequenceFileWriter(std::filesystem::path file, const Fingerprint& made_from);
  /// Removes what was not finished.
  ~SequenceFileWriter();
  SequenceFileWriter(const SequenceFileWriter&) = delete;
  SequenceFileWriter& operator=(const SequenceFileWriter&) = delete;

  /// `labels` as long as `ids`, which are not empty.
  void add(std::span<const text::TokenId> ids, std::span<const text::TokenId> labels);
  /// The last example's key: for all examples or for none.
  void add_key(const std::string& key);
  void skip() { ++num_skipped_; }
  /// The last example has lost so many tokens to max_length.
  void add_lost(std::size_t num_tokens) { cut_.add(num_tokens); }
  std::size_t size() const { return starts_.size() - 1; }
  /// @throws core::IoError  the disk is full or failed
  void finish();

 private:
  std::filesystem::path file_;
  std::filesystem::path temporary_;
  Fingerprint made_from_;
  std::ofstream stream_;
  std::vector<std::uint64_t> starts_ = {0};
  std::string keys_;
  std::size_t num_skipped_ = 0;
  CutTexts cut_;
  bool is_finished_ = false;
};

}  // namespace drystone::data
