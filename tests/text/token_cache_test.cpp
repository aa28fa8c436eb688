#include "text/token_cache.h"

#include <optional>
#include <string>
#include <thread>

#include <doctest/doctest.h>

using namespace drystone::text;
using Ids = std::vector<TokenId>;

namespace {

std::optional<Ids> found(TokenCache& cache, const std::string& word) {
  const auto place = cache.find(word);
  if (!place.is_hit()) return std::nullopt;
  Ids ids;
  place.append_to(ids);
  return ids;
}

void keep(TokenCache& cache, const std::string& word, const Ids& ids) {
  cache.store(cache.find(word), word, ids);
}

}  // namespace

TEST_CASE("token_cache: what it finds is what was kept for that very word") {
  TokenCache cache;
  for (int i = 0; i < 100'000; ++i) keep(cache, "word" + std::to_string(i), {i, i + 1});
  int hits = 0;
  for (int i = 0; i < 100'000; ++i) {
    const auto ids = found(cache, "word" + std::to_string(i));
    if (!ids) continue;
    ++hits;
    REQUIRE(*ids == Ids{i, i + 1});
  }
  CHECK(hits > 5000);  // of 16384 places
  CHECK_FALSE(found(cache, "never"));
}

TEST_CASE("token_cache: long words and long lists are not kept") {
  TokenCache cache;
  keep(cache, std::string(46, 'a'), {1});
  CHECK(found(cache, std::string(46, 'a')) == Ids{1});
  keep(cache, std::string(47, 'a'), {1});
  CHECK_FALSE(found(cache, std::string(47, 'a')));
  keep(cache, "many", Ids(21, 1));
  CHECK_FALSE(found(cache, "many"));
  keep(cache, "none", {});
  CHECK(found(cache, "none") == Ids{});
}

TEST_CASE("token_cache: one for each thread and tokenizer; the last few are kept") {
  TokenCache& mine = TokenCache::of_thread(1001);
  keep(mine, "a", {1});
  CHECK(found(TokenCache::of_thread(1001), "a") == Ids{1});
  CHECK_FALSE(found(TokenCache::of_thread(1002), "a"));
  std::thread([] { CHECK_FALSE(found(TokenCache::of_thread(1001), "a")); }).join();
  for (std::uint64_t owner = 2000; owner < 2010; ++owner) TokenCache::of_thread(owner);
  CHECK_FALSE(found(TokenCache::of_thread(1001), "a"));
}
