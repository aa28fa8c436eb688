#pragma once
// Encoded examples in memory: one flat buffer of ids.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "data/label_map.h"
#include "data/record.h"
#include "data/tokenizer.h"

namespace drystone::data {

/// Examples are numbered from 0 in the order in which they were added. A const Dataset may be read
/// from several threads at once.
class Dataset {
 public:
  std::size_t size() const { return labels_.size(); }
  bool empty() const { return labels_.empty(); }

  std::span<const TokenId> ids(std::size_t example) const {
    return std::span(ids_).subspan(offsets_[example], length(example));
  }
  std::size_t length(std::size_t example) const {
    return offsets_[example + 1] - offsets_[example];
  }
  /// Sum of all lengths.
  std::size_t num_tokens() const { return ids_.size(); }

  std::int64_t label(std::size_t example) const { return labels_[example]; }  ///< class id
  float target(std::size_t example) const { return targets_[example]; }       ///< regression
  std::span<const std::int64_t> labels() const { return labels_; }
  /// Causal LM: one label a token, the token itself or −100 where nothing is to be learnt; empty
  /// for other tasks.
  std::span<const TokenId> token_labels(std::size_t example) const {
    if (token_labels_.empty()) return {};
    return std::span(token_labels_).subspan(offsets_[example], length(example));
  }

  /// Exactly one of `label` (classification) and `target` (regression) is meant; the other is 0.
  void add(std::span<const TokenId> ids, std::int64_t label, float target);

  /// An example of causal LM; a data set holds examples of one task.
  /// @throws core::InvalidArgument  lengths differ, or examples of another task are there
  void add_sequence(std::span<const TokenId> ids, std::span<const TokenId> token_labels);

  /// The examples at `indices`, in that order.
  /// @throws core::InvalidArgument  an index >= size()
  Dataset subset(std::span<const std::size_t> indices) const;

 private:
  std::vector<TokenId> ids_;
  std::vector<TokenId> token_labels_;
  std::vector<std::size_t> offsets_ = {0};
  std::vector<std::int64_t> labels_;
  std::vector<float> targets_;
};

struct LoadOptions {
  RecordFields fields;
  std::int64_t max_length = 128;      ///< tokens, special ones included; longer texts are cut
  const LabelMap* classes = nullptr;  ///< null: regression
};

struct LoadedDataset {
  Dataset examples;
  std::vector<std::string> keys;  ///< by example; empty unless fields.key is set
};

/// Reads and encodes a data file, holding one text at a time.
/// @throws core::ConfigError  `FILE:LINE: …` for a record without a fitting label or with ids
///                            outside the vocabulary, and for a file without records
/// @throws as RecordReader
LoadedDataset load_dataset(const std::filesystem::path& file, const Tokenizer& tokenizer,
                           const LoadOptions& options);

}  // namespace drystone::data
