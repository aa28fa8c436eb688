#pragma once
// Seeded damage to bytes, in the ways that break decoders.

#include "core/bytes.h"
#include "core/seed.h"

namespace drystone::test {

/// A Cap'n Proto list pointer (https://capnproto.org/encoding.html) of `offset` words that claims
/// `count` elements of the size class `element` (0 void, 1 bit, 2 byte … 7 composite).
std::uint64_t list_pointer(std::int32_t offset, std::uint64_t element, std::uint64_t count);

std::uint64_t word_at(const core::Bytes& bytes, std::size_t word);
void set_word(core::Bytes& bytes, std::size_t word, std::uint64_t value);

/// One to four of: bit flips, random bytes, a pointer that claims much, a word copied elsewhere, a
/// cut, an insertion.
core::Bytes mutate(core::Bytes bytes, core::SplitMix64& random);

}  // namespace drystone::test
