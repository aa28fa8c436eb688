#include "tensors/name_patterns.h"

#include <chrono>

#include <doctest/doctest.h>

#include "core/error.h"

using namespace drystone;
using tensors::NamePatterns;

namespace {

/// Whether the only pattern of a table matches.
bool matches(const std::string& pattern, const std::string& name) {
  return NamePatterns({{pattern, 1.0}}).find(name).has_value();
}

}  // namespace

TEST_CASE("name patterns: a plain name fits the end of a name, from a dot on") {
  CHECK(matches("q_proj", "q_proj"));
  CHECK(matches("q_proj", "model.layers.0.q_proj"));
  CHECK_FALSE(matches("q_proj", "model.layers.0.xq_proj"));
  CHECK_FALSE(matches("q_proj", "q_proj.weight"));
  CHECK(matches("0.q_proj", "model.layers.0.q_proj"));
  CHECK(matches("0.q_proj", "model.layers.0xq_proj"));  // a dot is any character
  CHECK_FALSE(matches("0\\.q_proj", "model.layers.0xq_proj"));
  CHECK_FALSE(matches("0.q_proj", "model.layers.10.q_proj"));
  CHECK(matches("^model\\.q", "model.q"));
  CHECK_FALSE(matches("^model\\.q", "a.model.q"));
  CHECK_FALSE(matches("^q", "model.q"));
}

TEST_CASE("name patterns: the first that matches counts, whole names among others") {
  const NamePatterns patterns(
      {{"q", 1.0}, {"^a\\.k", 2.0}, {"k", 3.0}, {"^b\\.k", 4.0}, {"^a\\.q", 5.0}, {"^a\\.k", 6.0}});
  CHECK(patterns.find("a.q") == 1.0);
  CHECK(patterns.find("a.k") == 2.0);
  CHECK(patterns.find("b.k") == 3.0);
  CHECK(patterns.find("c.v") == std::nullopt);
}

TEST_CASE("name patterns: a hundred thousand whole names are looked up at once") {
  std::vector<std::pair<std::string, double>> table;
  for (int i = 0; i < 100'000; ++i) table.emplace_back("^m\\." + std::to_string(i), i);
  const NamePatterns patterns(std::move(table));
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 100'000; ++i) CHECK(patterns.find("m." + std::to_string(i)) == i);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(20));
  std::vector<std::pair<std::string, double>> others(NamePatterns::kMostPatterns + 1, {"q", 1.0});
  CHECK_THROWS_AS(NamePatterns{std::move(others)}, core::ConfigError);
}
