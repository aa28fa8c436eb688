#include "wire/text.h"

#include "core/text.h"

namespace drystone::wire {

bool is_clean_text(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = core::visible_character(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string clean_text(std::string_view text, std::size_t max_bytes) {
  std::string result;
  while (!text.empty()) {
    const std::size_t length = core::visible_character(text);
    const std::string_view piece = length == 0 ? "?" : text.substr(0, length);
    if (result.size() + piece.size() > max_bytes) break;
    result += piece;
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return result;
}

}  // namespace drystone::wire
