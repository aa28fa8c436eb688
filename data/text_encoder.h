#pragma once
// A text, or a pair of texts, for classification and regression.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "data/record.h"
#include "text/tokenizer.h"

namespace drystone::data {

struct EncodedText {
  std::vector<text::TokenId> ids;
  /// Where the second text begins if the model tells it by token type 1 from there on (BERT,
  /// DeBERTa, ALBERT); 0 for single texts and for families without types.
  std::size_t second_start = 0;
};

/// Encodes texts as Hugging Face's tokenizers do with (text, text_pair, truncation=True):
///   BERT, DeBERTa, ALBERT  [CLS] A [SEP] B [SEP]
///   RoBERTa and kin        <s> A </s></s> B </s>
///   T5                     A </s> B </s>
///   Llama, Gemma           <s> A <s> B
///   GPT-2, Qwen            A B
/// Too long pairs lose tokens at the end of the longer text first (longest_first).
class TextEncoder {
 public:
  /// `tokenizer` must outlive the object.
  explicit TextEncoder(const text::Tokenizer& tokenizer);

  /// @param max_length  of all ids; ready ids are cut
  EncodedText encode(const Record& record, std::int64_t max_length) const;
  EncodedText encode_pair(std::string_view first, std::string_view second,
                          std::int64_t max_length) const;

 private:
  const text::Tokenizer& tokenizer_;
  std::vector<text::TokenId> prefix_;
  std::vector<text::TokenId> middle_;
  std::vector<text::TokenId> suffix_;
  bool has_types_ = false;
};

}  // namespace drystone::data
