#include "crypto/names.h"

#include <algorithm>

namespace drystone::crypto {

namespace {

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

}  // namespace

bool is_party_name(std::string_view name) {
  constexpr std::size_t kMaxLength = 128;
  return !name.empty() && name.size() <= kMaxLength && is_alphanumeric(name.front()) &&
         std::ranges::all_of(
             name, [](char c) { return is_alphanumeric(c) || c == '.' || c == '_' || c == '-'; });
}

}  // namespace drystone::crypto
