#pragma once
// GPT-2's alphabet: 256 printable characters that stand for the bytes of a text (Radford et al.,
// 2019). Vocabularies called byte-level are spelled in it.

#include <optional>
#include <string>
#include <string_view>

namespace drystone::text {

/// The character that stands for `byte`.
char32_t byte_character(unsigned char byte);

/// The byte that `character` stands for, if it is of the alphabet.
std::optional<unsigned char> byte_of(char32_t character);

/// Appends the spelling of the bytes of `text`.
void append_byte_characters(std::string_view text, std::string& out);

}  // namespace drystone::text
