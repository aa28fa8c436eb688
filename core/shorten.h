#pragma once
// Long words from files in messages.

#include <cstddef>
#include <string>
#include <string_view>

namespace drystone::core {

/// `text`, or as much of it as ends with "…" within `max_bytes`, cut between characters.
std::string shorten(std::string_view text, std::size_t max_bytes);

}  // namespace drystone::core
