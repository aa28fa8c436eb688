#pragma once
// Names of parties: they become file names, log fields and map keys, so their alphabet is small.

#include <string_view>

namespace drystone::crypto {

/// True for 1 to 128 characters of [A-Za-z0-9._-] that begin with a letter or a digit.
bool is_party_name(std::string_view name);

/// What is_party_name asks for, in words for an error message.
inline constexpr std::string_view kPartyNameRule =
    "use 1 to 128 letters, digits, '.', '_' or '-', beginning with a letter or digit";

}  // namespace drystone::crypto
