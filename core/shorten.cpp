#include "core/shorten.h"

#include <algorithm>

namespace drystone::core {

std::string shorten(std::string_view text, std::size_t max_bytes) {
  constexpr std::string_view kMark = "…";
  if (text.size() <= max_bytes) return std::string(text);
  std::size_t end = max_bytes - std::min(max_bytes, kMark.size());
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  return std::string(text.substr(0, end)) + std::string(kMark);
}

}  // namespace drystone::core
