#include "text/jinja_lexer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "text/utf8.h"

namespace drystone::text::jinja {

void fail_at(int line, const std::string& problem) {
  throw core::ConfigError("line " + std::to_string(line) + ": " + problem);
}

namespace {

constexpr std::string_view kSpace = " \t\n\r\v\f";

bool is_space(char byte) { return kSpace.find(byte) != std::string_view::npos; }
bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }
bool begins_name(char byte) {
  return byte == '_' || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}
bool is_name(char byte) { return begins_name(byte) || is_digit(byte); }

/// As Jinja reads a template: line breaks are line feeds, and the last one is dropped.
std::string normalized(std::string_view source) {
  std::string text;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text += source[i];
    } else if (i + 1 == source.size() || source[i + 1] != '\n') {
      text += '\n';
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : text_(normalized(source)) {}

  std::vector<Token> run() {
    while (position_ < text_.size()) {
      const std::size_t tag = find_tag();
      if (tag == std::string::npos) {
        emit_text(text_.substr(position_));
        position_ = text_.size();
        break;
      }
      read_tag(tag);
    }
    emit(Token::Kind::End, "");
    return std::move(tokens_);
  }

 private:
  void emit(Token::Kind kind, std::string text) {
    tokens_.push_back({kind, std::move(text), line_});
  }
  void emit_text(std::string text) {
    if (!text.empty()) emit(Token::Kind::Text, std::move(text));
  }

  /// Moves on, counting lines.
  void advance(std::size_t to) {
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(position_),
                                         text_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
    position_ = to;
  }

  std::size_t find_tag() const {
    for (std::size_t i = text_.find('{', position_); i != std::string::npos;
         i = text_.find('{', i + 1)) {
      const char next = i + 1 < text_.size() ? text_[i + 1] : ' ';
      if (next == '%' || next == '{' || next == '#') return i;
    }
    return std::string::npos;
  }

  /// The text up to the tag, cut as the tag's sign and lstrip_blocks ask for.
  std::string text_before(std::size_t tag, bool is_output) const {
    std::string text = text_.substr(position_, tag - position_);
    const char sign = tag + 2 < text_.size() ? text_[tag + 2] : ' ';
    if (sign == '-') {
      while (!text.empty() && is_space(text.back())) text.pop_back();
    } else if (sign != '+' && !is_output) {
      const std::size_t feed = text.rfind('\n');
      const std::size_t line = feed == std::string::npos ? 0 : feed + 1;
      const bool begins_line = line > 0 || position_ == 0 || text_[position_ - 1] == '\n';
      if (begins_line &&
          std::all_of(text.begin() + static_cast<std::ptrdiff_t>(line), text.end(), is_space)) {
        text.resize(line);
      }
    }
    return text;
  }

  void read_tag(std::size_t tag) {
    const char kind = text_[tag + 1];
    emit_text(text_before(tag, kind == '{'));
    advance(tag + 2);
    if (kind == '#') return skip_comment();
    if (position_ < text_.size() && (text_[position_] == '-' || text_[position_] == '+')) {
      ++position_;
    }
    if (kind == '%' && read_raw()) return;
    emit(kind == '{' ? Token::Kind::OutputBegin : Token::Kind::BlockBegin, "");
    read_tokens(kind == '{');
  }

  void skip_comment() {
    const std::size_t end = text_.find("#}", position_);
    if (end == std::string::npos) fail_at(line_, "a comment is never closed; add #}");
    const char sign = end > position_ ? text_[end - 1] : ' ';
    advance(end + 2);
    after_tag(sign, /*is_output=*/false);
  }

  /// What a tag's end takes from the text behind it.
  void after_tag(char sign, bool is_output) {
    std::size_t end = position_;
    if (sign == '-') {
      while (end < text_.size() && is_space(text_[end])) ++end;
    } else if (sign != '+' && !is_output && end < text_.size() && text_[end] == '\n') {
      ++end;
    }
    advance(end);
  }

  /// {% raw %} … {% endraw %}
  bool read_raw() {
    std::size_t at = position_;
    const auto skip_space = [&] {
      while (at < text_.size() && is_space(text_[at])) ++at;
    };
    const auto closes = [&](std::string_view word) {
      skip_space();
      if (text_.compare(at, word.size(), word) != 0) return false;
      at += word.size();
      skip_space();
      const bool has_sign = at < text_.size() && (text_[at] == '-' || text_[at] == '+');
      if (has_sign) ++at;
      if (text_.compare(at, 2, "%}") != 0) return false;
      at += 2;
      return true;
    };
    if (!closes("raw")) return false;
    advance(at);
    after_tag(text_[at - 3], /*is_output=*/false);
    for (std::size_t tag = text_.find("{%", position_); tag != std::string::npos;
         tag = text_.find("{%", tag + 1)) {
      at = tag + 2;
      if (at < text_.size() && (text_[at] == '-' || text_[at] == '+')) ++at;
      if (!closes("endraw")) continue;
      emit_text(text_before(tag, /*is_output=*/false));
      advance(at);
      after_tag(text_[at - 3], /*is_output=*/false);
      return true;
    }
    fail_at(line_, "{% raw %} is never closed; add {% endraw %}");
  }

  void read_tokens(bool is_output) {
    const std::string close = is_output ? "}}" : "%}";
    std::string open_braces;
    for (;;) {
      while (position_ < text_.size() && is_space(text_[position_])) advance(position_ + 1);
      if (position_ >= text_.size()) fail_at(line_, "a tag is never closed; add " + close);
      if (open_braces.empty() && ends_tag(close, is_output)) return;
      read_token(open_braces);
    }
  }

  bool ends_tag(const std::string& close, bool is_output) {
    const char sign = text_[position_];
    const std::size_t at = position_ + (sign == '-' || (sign == '+' && !is_output) ? 1 : 0);
    if (text_.compare(at, 2, close) != 0) return false;
    emit(is_output ? Token::Kind::OutputEnd : Token::Kind::BlockEnd, "");
    advance(at + 2);
    after_tag(sign, is_output);
    return true;
  }

  void read_token(std::string& open_braces) {
    const char byte = text_[position_];
    if (begins_name(byte)) return read_name();
    if (is_digit(byte)) return read_number();
    if (byte == '"' || byte == '\'') return read_string(byte);
    static constexpr std::array<std::string_view, 6> kLong = {"**", "//", "==", "!=", "<=", ">="};
    const std::string_view two = std::string_view(text_).substr(position_, 2);
    const bool is_long = std::ranges::find(kLong, two) != kLong.end();
    const std::string op = is_long ? std::string(two) : std::string(1, byte);
    if (!is_long && std::string_view("+-*/%~()[]{}<>=.:|,").find(byte) == std::string_view::npos) {
      fail_at(line_, "unexpected character " + core::quote(op));
    }
    balance(op, open_braces);
    emit(Token::Kind::Operator, op);
    position_ += op.size();
  }

  void balance(const std::string& op, std::string& open_braces) const {
    if (op == "(") open_braces += ')';
    if (op == "[") open_braces += ']';
    if (op == "{") open_braces += '}';
    if (op == ")" || op == "]" || op == "}") {
      if (open_braces.empty() || open_braces.back() != op[0]) fail_at(line_, "unexpected " + op);
      open_braces.pop_back();
    }
  }

  void read_name() {
    std::size_t end = position_;
    while (end < text_.size() && is_name(text_[end])) ++end;
    emit(Token::Kind::Name, text_.substr(position_, end - position_));
    position_ = end;
  }

  void read_number() {
    std::string digits;
    bool is_real = false;
    while (position_ < text_.size()) {
      const char byte = text_[position_];
      const bool has_digit = position_ + 1 < text_.size() && is_digit(text_[position_ + 1]);
      if (byte == '.' && !is_real && has_digit) {
        is_real = true;
      } else if (!is_digit(byte) && !(byte == '_' && has_digit)) {
        break;
      }
      if (byte != '_') digits += byte;
      ++position_;
    }
    emit(is_real ? Token::Kind::Real : Token::Kind::Integer, std::move(digits));
  }

  void read_string(char quote) {
    const int begin = line_;
    std::string value;
    for (advance(position_ + 1);;) {
      if (position_ >= text_.size()) fail_at(begin, "a string is never closed");
      const char byte = text_[position_];
      if (byte == quote) break;
      if (byte == '\\' && position_ + 1 < text_.size()) {
        read_escape(value);
      } else {
        value += byte;
        advance(position_ + 1);
      }
    }
    ++position_;
    tokens_.push_back({Token::Kind::String, std::move(value), begin});
  }

  void read_escape(std::string& value) {
    static constexpr std::string_view kFrom = "nrtbfav0\\'\"";
    static constexpr std::string_view kTo("\n\r\t\b\f\a\v\0\\'\"", 11);
    const char kind = text_[position_ + 1];
    if (const std::size_t found = kFrom.find(kind); found != std::string_view::npos) {
      value += kTo[found];
      position_ += 2;
    } else if (kind == 'x' || kind == 'u' || kind == 'U') {
      read_code(kind == 'x' ? 2 : kind == 'u' ? 4 : 8, value);
    } else if (kind == '\n') {
      advance(position_ + 2);
    } else {  // as Python: not an escape
      value += '\\';
      ++position_;
    }
  }

  void read_code(std::size_t digits, std::string& value) {
    char32_t code = 0;
    for (std::size_t i = position_ + 2; i < position_ + 2 + digits; ++i) {
      static constexpr std::string_view kHex = "0123456789abcdefABCDEF";
      const std::size_t digit = i < text_.size() ? kHex.find(text_[i]) : std::string_view::npos;
      if (digit == std::string_view::npos) fail_at(line_, "a string has an incomplete escape");
      code = code * 16 + static_cast<char32_t>(digit < 16 ? digit : digit - 6);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      fail_at(line_, "a string has an escape that is not a character");
    }
    append_utf8(code, value);
    position_ += 2 + digits;
  }

  std::string text_;
  std::size_t position_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace drystone::text::jinja
