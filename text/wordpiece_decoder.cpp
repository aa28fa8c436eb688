#include "text/wordpiece_decoder.h"

#include <array>
#include <utility>

namespace drystone::text {

namespace {

void replace_all(std::string& text, std::string_view what, std::string_view with) {
  for (std::size_t at = text.find(what); at != std::string::npos;
       at = text.find(what, at + with.size())) {
    text.replace(at, what.size(), with);
  }
}

void clean_up(std::string& text) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kRules = {
      {{" .", "."},
       {" ?", "?"},
       {" !", "!"},
       {" ,", ","},
       {" ' ", "'"},
       {" n't", "n't"},
       {" 'm", "'m"},
       {" do not", " don't"},
       {" 's", "'s"},
       {" 've", "'ve"},
       {" 're", "'re"}}};
  for (const auto& [what, with] : kRules) replace_all(text, what, with);
}

}  // namespace

std::string decode_wordpiece(std::span<const std::string_view> tokens, std::string_view prefix,
                             bool cleanup) {
  std::string text;
  std::string part;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    part.clear();
    std::string_view token = tokens[i];
    if (i > 0 && token.starts_with(prefix)) {
      token.remove_prefix(prefix.size());
    } else if (i > 0) {
      part = " ";
    }
    part += token;
    if (cleanup) clean_up(part);  // token by token, as the original does it
    text += part;
  }
  return text;
}

}  // namespace drystone::text
