#pragma once
// How tokenizers split a normalized text into words that their models see one by one: the
// components of tokenizer.json's "pre_tokenizer".

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/token_model.h"
#include "text/word_sink.h"

namespace drystone::text {

/// Immutable: may be used from several threads at once. Texts are well-formed UTF-8.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;

  /// Hands the words of `text` to `sink`.
  /// @param buffer  scratch space that the words may lie in
  /// @return        whether the end was reached
  virtual bool split(std::string_view text, bool is_start, std::string& buffer,
                     WordSink& sink) const = 0;
};

using PreTokenizers = std::vector<std::unique_ptr<const PreTokenizer>>;

/// Delimiters are the matches of a regular expression; with `invert` what lies between them.
std::unique_ptr<const PreTokenizer> make_regex_split(std::string_view pattern,
                                                     SplitBehavior behavior, bool invert);
/// Delimiters are the occurrences of a text.
std::unique_ptr<const PreTokenizer> make_text_split(std::string delimiter, SplitBehavior behavior,
                                                    bool invert);

/// GPT-2's: words with the space before them, numbers, punctuation. `prefix_space` adds a space to
/// a text that begins with none; `regex` is whether to split; `spell` is whether to spell bytes in
/// GPT-2's alphabet (a model of raw bytes needs none of it).
struct ByteLevelOptions {
  bool prefix_space = true;
  bool regex = true;
  bool spell = true;
};
std::unique_ptr<const PreTokenizer> make_byte_level_words(const ByteLevelOptions& options);

enum class PrependScheme : unsigned char { First, Never, Always };

/// SentencePiece's: ' ' becomes `replacement`, one is put before the text, and each begins a word.
struct MetaspaceOptions {
  std::string replacement = "\xE2\x96\x81";
  PrependScheme prepend = PrependScheme::Always;
  bool split = true;
};
std::unique_ptr<const PreTokenizer> make_metaspace(MetaspaceOptions options);

/// Runs of \w and runs of what is neither \w nor white space.
std::unique_ptr<const PreTokenizer> make_whitespace();
std::unique_ptr<const PreTokenizer> make_whitespace_split();
std::unique_ptr<const PreTokenizer> make_punctuation(SplitBehavior behavior);
std::unique_ptr<const PreTokenizer> make_digits(bool individual);
/// White space separates, each punctuation character is a word.
std::unique_ptr<const PreTokenizer> make_bert_words();
/// Words of `length` characters.
std::unique_ptr<const PreTokenizer> make_fixed_length(std::size_t length);

/// Cuts before runs of U+2581 wherever `model` gives the same ids for the parts: not in
/// tokenizer.json, only for speed.
std::unique_ptr<const PreTokenizer> make_metaspace_cuts(const TokenModel& model);

}  // namespace drystone::text
