#include "text/pretokenizer.h"

#include <algorithm>
#include <array>

#include "text/bert_unicode.h"
#include "text/metaspace.h"
#include "text/pretokenizer_split.h"
#include "text/token_bytes.h"
#include "text/token_regex.h"
#include "text/token_unicode.h"
#include "text/utf8.h"

namespace drystone::text {

namespace {

constexpr std::string_view kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

class RegexSplit final : public PreTokenizer {
 public:
  RegexSplit(std::string_view pattern, SplitBehavior behavior, bool invert)
      : regex_(pattern), behavior_(behavior), invert_(invert) {}

  bool split(std::string_view text, bool is_start, std::string&, WordSink& sink) const override {
    DelimiterSplit parts(text, is_start, behavior_, invert_, sink);
    return regex_.for_each(text, [&parts](const TokenRegex::Match& match) {
      return parts.delimiter(match.begin, match.end);
    }) && parts.finish();
  }

 private:
  TokenRegex regex_;
  SplitBehavior behavior_;
  bool invert_;
};

bool split_at_text(std::string_view text, std::string_view delimiter, DelimiterSplit& parts) {
  for (std::size_t at = text.find(delimiter); at != std::string_view::npos && !delimiter.empty();
       at = text.find(delimiter, at + delimiter.size())) {
    if (!parts.delimiter(at, at + delimiter.size())) return false;
  }
  return parts.finish();
}

class TextSplit final : public PreTokenizer {
 public:
  TextSplit(std::string delimiter, SplitBehavior behavior, bool invert)
      : delimiter_(std::move(delimiter)), behavior_(behavior), invert_(invert) {}

  bool split(std::string_view text, bool is_start, std::string&, WordSink& sink) const override {
    DelimiterSplit parts(text, is_start, behavior_, invert_, sink);
    return split_at_text(text, delimiter_, parts);
  }

 private:
  std::string delimiter_;
  SplitBehavior behavior_;
  bool invert_;
};

/// Delimiters are the characters for which `Holds` holds.
template <bool (*Holds)(char32_t)>
class CharacterSplit final : public PreTokenizer {
 public:
  explicit CharacterSplit(SplitBehavior behavior) : behavior_(behavior) {}

  bool split(std::string_view text, bool is_start, std::string&, WordSink& sink) const override {
    DelimiterSplit parts(text, is_start, behavior_, /*invert=*/false, sink);
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t begin = i;
      if (Holds(decode_utf8(text, i)) && !parts.delimiter(begin, i)) return false;
    }
    return parts.finish();
  }

 private:
  SplitBehavior behavior_;
};

bool is_punctuation(char32_t c) { return (bert_traits(c) & kPunctuation) != 0; }

class ByteLevelWords final : public PreTokenizer {
 public:
  explicit ByteLevelWords(const ByteLevelOptions& options) : options_(options) {
    if (options.regex) {
      words_ = make_regex_split(kGpt2Words, SplitBehavior::Isolated, /*invert=*/false);
    }
  }

  bool split(std::string_view text, bool is_start, std::string& buffer,
             WordSink& sink) const override {
    if (options_.prefix_space && !text.starts_with(' ')) {
      buffer = ' ';
      buffer += text;
      text = buffer;
    }
    if (!options_.spell) return words(text, is_start, sink);
    Speller speller(sink);
    return words(text, is_start, speller);
  }

 private:
  class Speller final : public WordSink {
   public:
    explicit Speller(WordSink& sink) : sink_(sink) {}
    bool word(std::string_view word, bool is_start) override {
      spelled_.clear();
      append_byte_characters(word, spelled_);
      return sink_.word(spelled_, is_start);
    }

   private:
    WordSink& sink_;
    std::string spelled_;
  };

  bool words(std::string_view text, bool is_start, WordSink& sink) const {
    std::string unused;
    return words_ == nullptr ? sink.word(text, is_start)
                             : words_->split(text, is_start, unused, sink);
  }

  ByteLevelOptions options_;
  std::unique_ptr<const PreTokenizer> words_;
};

class Metaspace final : public PreTokenizer {
 public:
  explicit Metaspace(MetaspaceOptions options) : options_(std::move(options)) {}

  bool split(std::string_view text, bool is_start, std::string& buffer,
             WordSink& sink) const override {
    const std::string& mark = options_.replacement;
    const bool prepends = options_.prepend == PrependScheme::Always ||
                          (options_.prepend == PrependScheme::First && is_start);
    buffer.clear();
    if (prepends && !text.starts_with(' ') && !text.starts_with(mark)) buffer += mark;
    std::size_t done = 0;
    for (std::size_t at = text.find(' '); at != std::string_view::npos; at = text.find(' ', done)) {
      buffer.append(text, done, at - done);
      buffer += mark;
      done = at + 1;
    }
    buffer.append(text, done);
    if (!options_.split) return sink.word(buffer, is_start);
    DelimiterSplit parts(buffer, is_start, SplitBehavior::MergedWithNext, /*invert=*/false, sink);
    return split_at_text(buffer, mark, parts);
  }

 private:
  MetaspaceOptions options_;
};

enum class Kind : unsigned char { White, Word, Other };

Kind kind_of(char32_t c) {
  static const auto ascii = [] {
    std::array<Kind, 128> kinds{};
    for (std::size_t i = 0; i < kinds.size(); ++i) {
      const auto character = static_cast<char32_t>(i);
      kinds[i] = is_white(character)            ? Kind::White
                 : is_word_character(character) ? Kind::Word
                                                : Kind::Other;
    }
    return kinds;
  }();
  if (c < ascii.size()) return ascii[c];
  return is_white(c) ? Kind::White : is_word_character(c) ? Kind::Word : Kind::Other;
}

class Whitespace final : public PreTokenizer {
 public:
  bool split(std::string_view text, bool is_start, std::string&, WordSink& sink) const override {
    std::size_t begin = 0;
    Kind kind = Kind::White;
    const auto emit = [&](std::size_t end) {
      return kind == Kind::White ||
             sink.word(text.substr(begin, end - begin), is_start && begin == 0);
    };
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t at = i;
      const Kind now = kind_of(decode_utf8(text, i));
      if (now == kind) continue;
      if (!emit(at)) return false;
      begin = at;
      kind = now;
    }
    return emit(text.size());
  }
};

class BertWords final : public PreTokenizer {
 public:
  bool split(std::string_view text, bool is_start, std::string&, WordSink& sink) const override {
    std::size_t done = 0;
    const auto emit = [&](std::size_t end) {
      return end == done || sink.word(text.substr(done, end - done), is_start && done == 0);
    };
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t begin = i;
      const char32_t c = decode_utf8(text, i);
      if (is_white(c)) {
        if (!emit(begin)) return false;
        done = i;
      } else if (is_punctuation(c)) {
        if (!emit(begin)) return false;
        done = begin;
        if (!emit(i)) return false;
        done = i;
      }
    }
    return emit(text.size());
  }
};

class FixedLength final : public PreTokenizer {
 public:
  explicit FixedLength(std::size_t length) : length_(length) {}

  bool split(std::string_view text, bool is_start, std::string&, WordSink& sink) const override {
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t begin = i;
      for (std::size_t n = 0; n < length_ && i < text.size(); ++n) decode_utf8(text, i);
      if (!sink.word(text.substr(begin, i - begin), is_start && begin == 0)) return false;
    }
    return true;
  }

 private:
  std::size_t length_;
};

class MetaspaceCuts final : public PreTokenizer {
 public:
  explicit MetaspaceCuts(const TokenModel& model) : model_(model) {}

  bool split(std::string_view text, bool is_start, std::string&, WordSink& sink) const override {
    std::size_t begin = 0;
    std::size_t at = text.find(kMetaspaceUtf8);
    for (; at != std::string_view::npos; at = text.find(kMetaspaceUtf8, at)) {
      if (at > begin && may_cut_before(text, at)) {
        if (!sink.word(text.substr(begin, at - begin), is_start && begin == 0)) return false;
        begin = at;
      }
      at += kMetaspaceUtf8.size();
    }
    return sink.word(text.substr(begin), is_start && begin == 0);
  }

 private:
  bool may_cut_before(std::string_view text, std::size_t at) const {
    std::size_t start = at - 1;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    return !text.substr(start).starts_with(kMetaspaceUtf8) &&
           model_.may_cut(decode_utf8(text, start));
  }

  const TokenModel& model_;
};

}  // namespace

std::unique_ptr<const PreTokenizer> make_regex_split(std::string_view pattern,
                                                     SplitBehavior behavior, bool invert) {
  return std::make_unique<RegexSplit>(pattern, behavior, invert);
}

std::unique_ptr<const PreTokenizer> make_text_split(std::string delimiter, SplitBehavior behavior,
                                                    bool invert) {
  return std::make_unique<TextSplit>(std::move(delimiter), behavior, invert);
}

std::unique_ptr<const PreTokenizer> make_byte_level_words(const ByteLevelOptions& options) {
  return std::make_unique<ByteLevelWords>(options);
}

std::unique_ptr<const PreTokenizer> make_metaspace(MetaspaceOptions options) {
  return std::make_unique<Metaspace>(std::move(options));
}

std::unique_ptr<const PreTokenizer> make_whitespace() { return std::make_unique<Whitespace>(); }

std::unique_ptr<const PreTokenizer> make_whitespace_split() {
  return std::make_unique<CharacterSplit<is_white>>(SplitBehavior::Removed);
}

std::unique_ptr<const PreTokenizer> make_punctuation(SplitBehavior behavior) {
  return std::make_unique<CharacterSplit<is_punctuation>>(behavior);
}

std::unique_ptr<const PreTokenizer> make_digits(bool individual) {
  return std::make_unique<CharacterSplit<is_numeric>>(individual ? SplitBehavior::Isolated
                                                                 : SplitBehavior::Contiguous);
}

std::unique_ptr<const PreTokenizer> make_bert_words() { return std::make_unique<BertWords>(); }

std::unique_ptr<const PreTokenizer> make_fixed_length(std::size_t length) {
  return std::make_unique<FixedLength>(length);
}

std::unique_ptr<const PreTokenizer> make_metaspace_cuts(const TokenModel& model) {
  return std::make_unique<MetaspaceCuts>(model);
}

}  // namespace drystone::text
