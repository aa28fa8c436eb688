#include "core/toml_depth.h"

#include <algorithm>

#include "core/error.h"

namespace drystone::core {
namespace {

/// Walks over TOML, knowing only what a dot or a bracket can be hidden in: strings and comments.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  /// The line of what is nested too deep; 0: none.
  std::size_t run() {
    while (at_ < text_.size() && dots_ < kMostTomlLevels && brackets_ < kMostTomlLevels) step();
    return at_ < text_.size() ? line_ : 0;
  }

 private:
  void step() {
    const char c = text_[at_];
    switch (c) {
      case '"':
      case '\'': skip_string(c); return;
      case '#': at_ = std::min(text_.find('\n', at_), text_.size()); return;
      case '.': ++dots_; break;
      case '[':
      case '{':
        ++brackets_;
        dots_ = 0;
        break;
      case ']':
      case '}':
        brackets_ -= brackets_ > 0 ? 1 : 0;
        dots_ = 0;
        break;
      case '\n': ++line_; [[fallthrough]];
      case '=':
      case ',': dots_ = 0; break;
      default: break;
    }
    ++at_;
  }

  void skip_string(char quote) {
    const std::string triple(3, quote);
    const bool is_long = text_.substr(at_).starts_with(triple);
    const std::string_view end = is_long ? std::string_view(triple) : text_.substr(at_, 1);
    at_ += end.size();
    while (at_ < text_.size() && !text_.substr(at_).starts_with(end)) {
      if (text_[at_] == '\n') {
        if (!is_long) return;  // no string: the parser says so
        ++line_;
      }
      at_ += quote == '"' && text_[at_] == '\\' ? 2 : 1;
    }
    at_ += end.size();
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t line_ = 1;
  std::size_t dots_ = 0;      ///< of the key being read
  std::size_t brackets_ = 0;  ///< open
};

}  // namespace

void check_toml_depth(std::string_view text, const std::string& file) {
  const std::size_t line = Scanner(text).run();
  if (line == 0) return;
  throw ConfigError(file + ":" + std::to_string(line) + ": nested deeper than " +
                    std::to_string(kMostTomlLevels) + " levels; correct this line");
}

}  // namespace drystone::core
