#pragma once
// Text that crosses the network ends up in logs, JSON and terminals: visible characters only, or
// refused.

#include <cstddef>
#include <string>
#include <string_view>

namespace drystone::wire {

/// True for well-formed UTF-8 (no overlong forms, no surrogates) of core::visible_character alone.
bool is_clean_text(std::string_view text);

/// `text` as is_clean_text wants it and at most `max_bytes` long: what does not fit is replaced by
/// '?' or cut off at a character's border.
std::string clean_text(std::string_view text, std::size_t max_bytes);

}  // namespace drystone::wire
