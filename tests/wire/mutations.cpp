#include "tests/wire/mutations.h"

#include <cstring>

namespace drystone::test {

using core::SplitMix64;

std::uint64_t list_pointer(std::int32_t offset, std::uint64_t element, std::uint64_t count) {
  return 1U | static_cast<std::uint64_t>(static_cast<std::uint32_t>(offset) << 2) | element << 32 |
         count << 35;
}

std::uint64_t word_at(const core::Bytes& bytes, std::size_t word) {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data() + 8 * word, sizeof(value));
  return value;
}

void set_word(core::Bytes& bytes, std::size_t word, std::uint64_t value) {
  std::memcpy(bytes.data() + 8 * word, &value, sizeof(value));
}

namespace {

std::uint64_t hostile_word(SplitMix64& random) {
  const auto offset = static_cast<std::int32_t>(random.below(64)) - 16;
  switch (random.below(5)) {
    case 0: return list_pointer(offset, random.below(8), (1ULL << 29) - 1 - random.below(3));
    case 1: return list_pointer(offset, random.below(8), random.below(1 << 20));
    case 2: return random() & ~3ULL;                                         // struct pointer
    case 3: return 2 | (random() & 0xffffULL << 3) | random.below(3) << 32;  // far pointer
    default: return ~0ULL - random.below(2);
  }
}

void damage(core::Bytes& bytes, SplitMix64& random) {
  const std::size_t words = bytes.size() / 8;
  const auto position = [&](std::size_t size) {
    return static_cast<std::size_t>(random.below(size));
  };
  switch (bytes.empty() ? 7 : random.below(8)) {
    case 0:
    case 1:
      bytes[position(bytes.size())] ^= static_cast<std::uint8_t>(1U << random.below(8));
      break;
    case 2: bytes[position(bytes.size())] = static_cast<std::uint8_t>(random()); break;
    case 3:
      if (words > 0) set_word(bytes, position(words), hostile_word(random));
      break;
    case 4:
      if (words > 0) set_word(bytes, position(words), word_at(bytes, position(words)));
      break;
    case 5: bytes.resize(8 * position(words + 1)); break;
    case 6: bytes.resize(position(bytes.size())); break;
    default:
      for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<std::uint8_t>(random()));
  }
}

}  // namespace

core::Bytes mutate(core::Bytes bytes, SplitMix64& random) {
  for (std::uint64_t i = 1 + random.below(4); i > 0; --i) damage(bytes, random);
  return bytes;
}

}  // namespace drystone::test
