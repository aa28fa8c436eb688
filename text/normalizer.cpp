#include "text/normalizer.h"

#include "core/error.h"
#include "text/bert_unicode.h"
#include "text/token_bytes.h"
#include "text/token_regex.h"
#include "text/token_unicode.h"
#include "text/utf8.h"

namespace drystone::text {

namespace {

class Lowercase final : public Normalizer {
 public:
  bool apply(std::string_view text, bool, std::string& out) const override {
    out.clear();
    for (std::size_t i = 0; i < text.size();) {
      const char c = text[i];
      if (static_cast<unsigned char>(c) >= 0x80) {
        append_lower(decode_utf8(text, i), out);
      } else {
        out.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c);
        ++i;
      }
    }
    return true;
  }
};

constexpr char32_t kDrop = 0xFFFFFFFF;

/// Maps every character to another or drops it.
template <typename Map>
class EachCharacter final : public Normalizer {
 public:
  bool apply(std::string_view text, bool, std::string& out) const override {
    out.clear();
    bool keeps_first = true;
    for (std::size_t i = 0; i < text.size();) {
      const bool is_first = i == 0;
      const char32_t mapped = Map()(decode_utf8(text, i));
      if (mapped != kDrop) {
        append_utf8(mapped, out);
      } else if (is_first) {
        keeps_first = false;
      }
    }
    return keeps_first;
  }
};

struct WithoutAccents {
  char32_t operator()(char32_t c) const { return is_combining_mark(c) ? kDrop : c; }
};

struct Nmt {
  char32_t operator()(char32_t c) const {
    const bool is_control = (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) ||
                            c == 0x7F || c == 0x8F || c == 0x9F;
    if (is_control) return kDrop;
    const bool is_space = c == 0x9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
                          (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 ||
                          c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
    return is_space ? U' ' : c;
  }
};

class Replace final : public Normalizer {
 public:
  Replace(std::string what, std::string with) : what_(std::move(what)), with_(std::move(with)) {}

  bool apply(std::string_view text, bool, std::string& out) const override {
    out.clear();
    std::size_t done = 0;
    for (std::size_t at = text.find(what_); at != std::string_view::npos && !what_.empty();
         at = text.find(what_, done)) {
      out.append(text, done, at - done);
      out += with_;
      require_growth(out.size(), text.size());
      done = at + what_.size();
    }
    out.append(text, done);
    return !with_.empty() || !text.starts_with(what_);
  }

 private:
  std::string what_;
  std::string with_;
};

class RegexReplace final : public Normalizer {
 public:
  RegexReplace(std::string_view pattern, std::string with)
      : regex_(pattern), with_(std::move(with)) {}

  bool apply(std::string_view text, bool, std::string& out) const override {
    out.clear();
    std::size_t done = 0;
    bool keeps_first = true;
    regex_.for_each(text, [&](const TokenRegex::Match& match) {
      if (match.begin == 0 && match.end > 0) keeps_first = !with_.empty();
      out.append(text, done, match.begin - done);
      out += with_;
      require_growth(out.size(), text.size());
      done = match.end;
      return true;
    });
    out.append(text, done);
    return keeps_first;
  }

 private:
  TokenRegex regex_;
  std::string with_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}

  bool apply(std::string_view text, bool, std::string& out) const override {
    out.clear();
    if (text.empty()) return true;
    out += prefix_;
    out += text;
    return true;
  }

 private:
  std::string prefix_;
};

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}

  bool apply(std::string_view text, bool, std::string& out) const override {
    const std::size_t size = text.size();
    if (left_) text = without_left(text);
    const bool keeps_first = text.size() == size;
    if (right_) text = without_right(text);
    out = text;
    return keeps_first;
  }

 private:
  static std::string_view without_left(std::string_view text) {
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t begin = i;
      if (!is_white(decode_utf8(text, i))) return text.substr(begin);
    }
    return {};
  }

  static std::string_view without_right(std::string_view text) {
    std::size_t end = text.size();
    while (end > 0) {
      std::size_t begin = end - 1;
      while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
      std::size_t position = begin;
      if (!is_white(decode_utf8(text, position))) break;
      end = begin;
    }
    return text.substr(0, end);
  }

  bool left_;
  bool right_;
};

class ByteLevel final : public Normalizer {
 public:
  bool apply(std::string_view text, bool, std::string& out) const override {
    out.clear();
    append_byte_characters(text, out);
    return true;
  }
};

class Bert final : public Normalizer {
 public:
  explicit Bert(const BertNormalizerOptions& options) : normalizer_(options) {}

  bool apply(std::string_view text, bool, std::string& out) const override {
    out.clear();
    normalizer_.append(text, out);
    return true;
  }

 private:
  BertNormalizer normalizer_;
};

}  // namespace

void require_growth(std::size_t made, std::size_t from) {
  constexpr std::size_t kMostTimes = 16;
  constexpr std::size_t kAlways = std::size_t{1} << 20;
  if (made <= kMostTimes * from + kAlways) return;
  throw core::ConfigError("the tokenizer makes more than " + std::to_string(made - 1) +
                          " bytes of a text of " + std::to_string(from) +
                          "; use a tokenizer that does not");
}

bool NormalizerSequence::apply(std::string_view text, bool is_start, std::string& out) const {
  out = text;
  std::string previous;
  for (const auto& normalizer : normalizers_) {
    previous.swap(out);
    is_start = normalizer->apply(previous, is_start, out) && is_start;
    require_growth(out.size(), text.size());
  }
  return is_start;
}

std::unique_ptr<const Normalizer> make_lowercase() { return std::make_unique<Lowercase>(); }

std::unique_ptr<const Normalizer> make_strip_accents() {
  return std::make_unique<EachCharacter<WithoutAccents>>();
}

std::unique_ptr<const Normalizer> make_replace(std::string what, std::string with) {
  return std::make_unique<Replace>(std::move(what), std::move(with));
}

std::unique_ptr<const Normalizer> make_regex_replace(std::string_view pattern, std::string with) {
  return std::make_unique<RegexReplace>(pattern, std::move(with));
}

std::unique_ptr<const Normalizer> make_prepend(std::string prefix) {
  return std::make_unique<Prepend>(std::move(prefix));
}

std::unique_ptr<const Normalizer> make_strip(bool left, bool right) {
  return std::make_unique<Strip>(left, right);
}

std::unique_ptr<const Normalizer> make_nmt() { return std::make_unique<EachCharacter<Nmt>>(); }

std::unique_ptr<const Normalizer> make_byte_level() { return std::make_unique<ByteLevel>(); }

std::unique_ptr<const Normalizer> make_bert(const BertNormalizerOptions& options) {
  return std::make_unique<Bert>(options);
}

}  // namespace drystone::text
