#include "text/token_decoder.h"

#include <charconv>
#include <system_error>

#include "text/normalizer.h"
#include "text/token_bytes.h"
#include "text/utf8.h"
#include "text/wordpiece_decoder.h"

namespace drystone::text {

namespace {

constexpr std::string_view kReplacementUtf8 = "\xEF\xBF\xBD";

class ByteLevelDecoder final : public TokenDecoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::string bytes;
    for (const std::string& token : tokens) append(token, bytes);
    tokens.assign(1, valid_utf8(std::move(bytes)));
  }

 private:
  /// As it is if any character is not of the alphabet.
  static void append(const std::string& token, std::string& bytes) {
    const std::size_t before = bytes.size();
    for (std::size_t i = 0; i < token.size();) {
      const auto byte = byte_of(decode_utf8(token, i));
      if (!byte) {
        bytes.resize(before);
        bytes += token;
        return;
      }
      bytes.push_back(static_cast<char>(*byte));
    }
  }
};

class WordPieceDecoder final : public TokenDecoder {
 public:
  WordPieceDecoder(std::string prefix, bool cleanup)
      : prefix_(std::move(prefix)), cleanup_(cleanup) {}

  void apply(std::vector<std::string>& tokens) const override {
    const std::vector<std::string_view> views(tokens.begin(), tokens.end());
    std::string text = decode_wordpiece(views, prefix_, cleanup_);
    tokens.assign(1, std::move(text));
  }

 private:
  std::string prefix_;
  bool cleanup_;
};

std::string replaced(std::string_view text, std::string_view what, std::string_view with) {
  std::string out;
  std::size_t done = 0;
  for (std::size_t at = text.find(what); at != std::string_view::npos && !what.empty();
       at = text.find(what, done)) {
    out.append(text, done, at - done);
    out += with;
    done = at + what.size();
  }
  return out.append(text, done);
}

class MetaspaceDecoder final : public TokenDecoder {
 public:
  MetaspaceDecoder(std::string mark, bool strips_first)
      : mark_(std::move(mark)), strips_first_(strips_first) {}

  void apply(std::vector<std::string>& tokens) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = replaced(tokens[i], mark_, i == 0 && strips_first_ ? "" : " ");
    }
  }

 private:
  std::string mark_;
  bool strips_first_;
};

class SuffixDecoder final : public TokenDecoder {
 public:
  explicit SuffixDecoder(std::string suffix) : suffix_(std::move(suffix)) {}

  void apply(std::vector<std::string>& tokens) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = replaced(tokens[i], suffix_, i + 1 == tokens.size() ? "" : " ");
    }
  }

 private:
  std::string suffix_;
};

class Fuse final : public TokenDecoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::string text;
    for (const std::string& token : tokens) text += token;
    tokens.assign(1, std::move(text));
  }
};

class ByteFallback final : public TokenDecoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::vector<std::string> out;
    std::string bytes;
    for (std::string& token : tokens) {
      const int byte = byte_of_token(token);
      if (byte >= 0) {
        bytes.push_back(static_cast<char>(byte));
        continue;
      }
      flush(bytes, out);
      out.push_back(std::move(token));
    }
    flush(bytes, out);
    tokens = std::move(out);
  }

 private:
  static void flush(std::string& bytes, std::vector<std::string>& out) {
    if (bytes.empty()) return;
    if (find_invalid_utf8(bytes)) {
      out.insert(out.end(), bytes.size(), std::string(kReplacementUtf8));
    } else {
      out.push_back(bytes);
    }
    bytes.clear();
  }
};

class StripDecoder final : public TokenDecoder {
 public:
  StripDecoder(std::string content, std::size_t left, std::size_t right)
      : content_(std::move(content)),
        left_(content_.empty() ? 0 : left),
        right_(content_.empty() ? 0 : right) {}

  void apply(std::vector<std::string>& tokens) const override {
    for (std::string& token : tokens) {
      std::string_view rest = token;
      for (std::size_t i = 0; i < left_ && rest.starts_with(content_); ++i) {
        rest.remove_prefix(content_.size());
      }
      for (std::size_t i = 0; i < right_ && rest.ends_with(content_); ++i) {
        rest.remove_suffix(content_.size());
      }
      token = std::string(rest);
    }
  }

 private:
  std::string content_;
  std::size_t left_;
  std::size_t right_;
};

/// A normalizer, token by token.
class EachToken final : public TokenDecoder {
 public:
  explicit EachToken(std::unique_ptr<const Normalizer> normalizer)
      : normalizer_(std::move(normalizer)) {}

  void apply(std::vector<std::string>& tokens) const override {
    std::string out;
    for (std::string& token : tokens) {
      normalizer_->apply(token, /*is_start=*/false, out);
      token = out;
    }
  }

 private:
  std::unique_ptr<const Normalizer> normalizer_;
};

}  // namespace

std::string valid_utf8(std::string text) {
  const auto first_bad = find_invalid_utf8(text);
  if (!first_bad) return text;
  std::string out = text.substr(0, *first_bad);
  for (std::size_t i = *first_bad; i < text.size();) append_utf8(decode_utf8(text, i), out);
  return out;
}

int byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return -1;
  int value = -1;
  const char* end = token.data() + 5;
  const auto [stop, error] = std::from_chars(token.data() + 3, end, value, 16);
  return stop == end && error == std::errc() && value >= 0 ? value : -1;
}

std::unique_ptr<const TokenDecoder> make_byte_level_decoder() {
  return std::make_unique<ByteLevelDecoder>();
}

std::unique_ptr<const TokenDecoder> make_wordpiece_decoder(std::string prefix, bool cleanup) {
  return std::make_unique<WordPieceDecoder>(std::move(prefix), cleanup);
}

std::unique_ptr<const TokenDecoder> make_metaspace_decoder(std::string mark, bool strips_first) {
  return std::make_unique<MetaspaceDecoder>(std::move(mark), strips_first);
}

std::unique_ptr<const TokenDecoder> make_suffix_decoder(std::string suffix) {
  return std::make_unique<SuffixDecoder>(std::move(suffix));
}

std::unique_ptr<const TokenDecoder> make_fuse() { return std::make_unique<Fuse>(); }

std::unique_ptr<const TokenDecoder> make_byte_fallback() {
  return std::make_unique<ByteFallback>();
}

std::unique_ptr<const TokenDecoder> make_strip_decoder(std::string content, std::size_t left,
                                                       std::size_t right) {
  return std::make_unique<StripDecoder>(std::move(content), left, right);
}

std::unique_ptr<const TokenDecoder> make_replace_decoder(std::string what, std::string with) {
  return std::make_unique<EachToken>(make_replace(std::move(what), std::move(with)));
}

std::unique_ptr<const TokenDecoder> make_regex_replace_decoder(std::string_view pattern,
                                                               std::string with) {
  return std::make_unique<EachToken>(make_regex_replace(pattern, std::move(with)));
}

}  // namespace drystone::text
