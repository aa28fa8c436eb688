#pragma once
// Cuts a Jinja template into text and the tokens of its tags. Private to this folder.

#include <string>
#include <string_view>
#include <vector>

namespace drystone::text::jinja {

struct Token {
  enum class Kind {
    Text,        ///< between tags, white space control applied
    BlockBegin,  ///< {%
    BlockEnd,
    OutputBegin,  ///< {{
    OutputEnd,
    Name,
    String,  ///< unescaped
    Integer,
    Real,
    Operator,
    End,
  };

  Kind kind = Kind::End;
  std::string text;
  int line = 0;
};

/// The tokens, with End last.
/// @throws core::ConfigError  `line N: …`
std::vector<Token> tokenize(std::string_view source);

/// The error that everything here throws.
[[noreturn]] void fail_at(int line, const std::string& problem);

}  // namespace drystone::text::jinja
