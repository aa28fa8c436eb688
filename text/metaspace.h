#pragma once
// What stands for a space in SentencePiece's pieces: U+2581.

#include <string_view>

namespace drystone::text {

inline constexpr char32_t kMetaspace = 0x2581;
inline constexpr std::string_view kMetaspaceUtf8 = "\xE2\x96\x81";

}  // namespace drystone::text
