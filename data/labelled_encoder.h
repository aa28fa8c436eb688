#pragma once
// Records of classification and regression → examples.

#include <cstdint>
#include <string>

#include "data/dataset.h"
#include "data/label_map.h"
#include "data/text_encoder.h"

namespace drystone::data {

struct LabelledOptions {
  std::int64_t max_length = 128;      ///< tokens, special ones included; longer texts are cut
  std::int64_t num_rows = 0;          ///< of the model's embeddings, which ids need; 0: not known
  const LabelMap* classes = nullptr;  ///< null: regression
  std::string remedy;                 ///< of a label that does not fit: "set data.labels"
};

/// Its tokenizer and classes must outlive it.
class LabelledEncoder {
 public:
  LabelledEncoder(const text::Tokenizer& tokenizer, LabelledOptions options);

  /// @param where  the record's place, for messages
  /// @return how many tokens max_length cut
  /// @throws core::ConfigError  no fitting label, ids outside the vocabulary or without a row
  std::size_t add(const Record& record, const std::string& where, Dataset& dataset) const;

 private:
  void check_ready_ids(const Record& record, const std::string& where) const;
  std::int64_t class_id(const Record& record, const std::string& where) const;
  std::string remedy_for(const Label& label) const;
  float target(const Record& record, const std::string& where) const;

  const text::Tokenizer& tokenizer_;
  LabelledOptions options_;
  TextEncoder texts_;
};

}  // namespace drystone::data
