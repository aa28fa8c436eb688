#include "text/trie.h"

#include <map>

#include <doctest/doctest.h>

#include "core/error.h"
#include "core/seed.h"

using drystone::core::SplitMix64;
using drystone::text::Trie;

namespace {

std::string random_key(SplitMix64& random, std::size_t max_length, unsigned alphabet) {
  std::string key(random.below(max_length) + 1, ' ');
  for (char& c : key) c = static_cast<char>(random.below(alphabet));
  return key;
}

}  // namespace

TEST_CASE("trie: longest prefixes equal those of a search in a map") {
  for (const unsigned alphabet : {2u, 7u, 256u}) {
    CAPTURE(alphabet);
    SplitMix64 random(alphabet);
    std::map<std::string, std::int32_t> keys;
    while (keys.size() < 300) {
      keys.emplace(random_key(random, 12, alphabet), static_cast<std::int32_t>(keys.size()));
    }
    const Trie trie({keys.begin(), keys.end()});
    for (int i = 0; i < 3000; ++i) {
      const std::string text = random_key(random, 16, alphabet);
      Trie::Match expected;
      for (std::size_t length = 1; length <= text.size(); ++length) {
        const auto found = keys.find(text.substr(0, length));
        if (found != keys.end()) expected = {length, found->second};
      }
      const Trie::Match actual = trie.longest_prefix(Trie::kRoot, text);
      REQUIRE(actual.length == expected.length);
      REQUIRE(actual.value == expected.value);
    }
  }
}

TEST_CASE("trie: search may begin below a prefix") {
  const Trie trie({{"##ing", 1}, {"##in", 2}, {"ing", 3}});
  const Trie::Node below = trie.walk(Trie::kRoot, "##");
  REQUIRE(below != Trie::kNone);
  CHECK(trie.longest_prefix(below, "ings").value == 1);
  CHECK(trie.longest_prefix(below, "inert").value == 2);
  CHECK(trie.longest_prefix(Trie::kRoot, "ings").value == 3);
  CHECK(trie.walk(Trie::kRoot, "#x") == Trie::kNone);
}

TEST_CASE("trie: empty, duplicate and invalid entries") {
  CHECK(Trie().longest_prefix(Trie::kRoot, "abc").length == 0);
  CHECK(Trie({{"", 1}}).longest_prefix(Trie::kRoot, "abc").length == 0);
  CHECK(Trie({{"a", 1}, {"a", 2}}).longest_prefix(Trie::kRoot, "abc").value == 1);
  CHECK_THROWS_AS(Trie({{"a", -1}}), drystone::core::InvalidArgument);
}
