#include "tests/fuzz/text_mutations.h"

#include <algorithm>
#include <string_view>

namespace drystone::test {
namespace {

using core::Bytes;
using core::SplitMix64;

constexpr std::string_view kWords[] = {
    "{",      "}",      "[",         "]",       "[[",      "\"",         "'",
    "\"\"\"", ":",      ",",         "=",       ".",       "\n",         "\r\n",
    "\t",     "\\",     "\\u0000",   "\\ud800", "\x1b[2J", "\xff",       "\xE2\x80\xAE",
    "#",      "(a+)+b", "^",         "$",       "-",       "-1",         "0",
    "1",      "65536",  "1e999",     "1e-999",  "NaN",     "Infinity",   "1099511627776",
    "null",   "true",   "{\"a\":1}", "[1,2]",   "true",    "2147483648", "18446744073709551615"};

/// A piece of the text: most are short.
std::pair<std::size_t, std::size_t> piece(const Bytes& bytes, SplitMix64& random) {
  const std::size_t begin = random.below(bytes.size());
  const std::size_t most = std::min<std::size_t>(bytes.size() - begin, 1U << random.below(9));
  return {begin, 1 + random.below(most)};
}

void insert(Bytes& bytes, std::size_t place, const Bytes& part) {
  bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(place), part.begin(), part.end());
}

void damage(Bytes& bytes, SplitMix64& random) {
  const std::size_t place = random.below(bytes.size() + 1);
  const std::string_view word = kWords[random.below(std::size(kWords))];
  if (bytes.empty() || random.below(2) == 0) {
    insert(bytes, place, Bytes(word.begin(), word.end()));
    return;
  }
  const auto [begin, size] = piece(bytes, random);
  const auto first = bytes.begin() + static_cast<std::ptrdiff_t>(begin);
  const Bytes part(first, first + static_cast<std::ptrdiff_t>(size));
  switch (random.below(4)) {
    case 0: bytes.erase(first, first + static_cast<std::ptrdiff_t>(size)); break;
    case 1: insert(bytes, place, part); break;
    case 2:
      for (std::uint64_t i = random.below(200); i > 0; --i) insert(bytes, begin, part);
      break;
    default:
      bytes.erase(first, first + static_cast<std::ptrdiff_t>(size));
      insert(bytes, begin, Bytes(word.begin(), word.end()));
  }
}

}  // namespace

Bytes mutate_text(Bytes bytes, SplitMix64& random) {
  for (std::uint64_t i = 1 + random.below(4); i > 0; --i) damage(bytes, random);
  return bytes;
}

}  // namespace drystone::test
