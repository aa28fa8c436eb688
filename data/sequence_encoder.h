#pragma once
// Records → examples of causal LM: rendered by a template, tokenized, with one label a token.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/config.h"
#include "data/dataset.h"
#include "data/record.h"
#include "data/template.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace drystone::data {

enum class LossOn {
  Answer,  ///< answers and what ends them; of a record that is only text, all of it
  All,
};

struct SequenceOptions {
  /// "auto" | "alpaca" | "dolly" | "plain" | "chat" | an own one with {fields}. "auto": by the
  /// record: chat for messages, alpaca for instruction and output, text as it is.
  std::string prompt_template = "auto";
  std::string answer_field;  ///< of an own template
  LossOn loss_on = LossOn::Answer;
  std::int64_t max_length = 1024;  ///< tokens; longer examples are cut on the right
  std::int64_t num_rows = 0;       ///< of the model's embeddings, which ids need; 0: not known
};

/// Ids are those of tokenizing the example's whole text, so that a token may straddle the border of
/// prompt and answer. It then belongs to the answer: an answer begins at the first token that
/// tokenizing only the text before it does not give, and ends likewise. A sequence begins as the
/// tokenizer begins one (BOS) and ends in EOS, which is learnt, unless the tokenizer's own ending
/// or the length says otherwise. Chat templates write BOS and ends of turns themselves.
///
/// const methods may be called from several threads at once.
class SequenceEncoder {
 public:
  /// @param tokenizer  must outlive the object
  /// @param chat       the model's; null if it has none
  /// @throws core::ConfigError  no such template, an own one that is malformed, or "chat" without
  ///                            a chat template
  SequenceEncoder(const text::Tokenizer& tokenizer, std::shared_ptr<const text::ChatTemplate> chat,
                  SequenceOptions options);

  struct Example {
    std::vector<text::TokenId> ids;
    std::vector<text::TokenId> labels;  ///< as many: the id, or kNoLabel
  };

  /// @param where  the record's place, for messages
  /// @return absent: within max_length there is nothing to learn (the prompt fills it, or all is
  ///         empty). Count these and tell the user.
  /// @throws core::ConfigError  `WHERE: …` for ids outside the vocabulary or without a row, a
  ///                            conversation that the template refuses, a record of another form
  std::optional<Example> encode(const Record& record, const std::string& where) const;

  /// Appends what encode gives. @return false: left out
  /// @throws as encode
  bool add(const Record& record, const std::string& where, Dataset& dataset) const;

  /// The example's text, in pieces. Not for ready ids.
  std::vector<text::Span> render(const Record& record, const std::string& where) const;

  /// What a model gets to continue, and the answer that the record gives: for evaluation by
  /// generation. Of a conversation: all before the last assistant turn, and that turn.
  struct Question {
    std::string prompt;
    std::vector<text::TokenId> ids;  ///< of the prompt, as generation needs them: no EOS
    std::string answer;
  };
  /// @throws as add; a record that is only text has no answer
  Question question(const Record& record, const std::string& where) const;

  const SequenceOptions& options() const { return options_; }
  const text::Tokenizer& tokenizer() const { return tokenizer_; }

 private:
  Example encode_whole(const std::vector<text::Span>& spans, bool is_chat) const;
  Example ready(const Record& record, const std::string& where) const;
  const text::ChatTemplate& chat(const std::string& where) const;
  bool uses_chat(const Record& record) const;

  const text::Tokenizer& tokenizer_;
  std::shared_ptr<const text::ChatTemplate> chat_;
  SequenceOptions options_;
  std::optional<InstructionTemplate> instruction_;
};

/// The options that a configuration describes.
SequenceOptions sequence_options(const core::DataConfig& data, std::int64_t max_length);

/// The fields of its data files: with `sequence` set for causal LM.
/// @throws core::ConfigError  as data::sequence_fields
RecordFields record_fields(const core::DataConfig& data, bool is_sequence);

}  // namespace drystone::data
