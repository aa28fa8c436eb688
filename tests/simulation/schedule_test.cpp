#include "simulation/schedule.h"

#include <algorithm>
#include <map>

#include <doctest/doctest.h>

#include "core/seed.h"

using namespace drystone;
using simulation::Candidate;
using simulation::Slot;

namespace {

std::vector<Candidate> random_candidates(std::size_t count, core::SplitMix64& random) {
  std::vector<Candidate> candidates;
  candidates.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    candidates.push_back({.client = "client-" + std::to_string(1000 + i),
                          .cost = random.uniform(),
                          .group_class = static_cast<int>(random.below(3)) - 1,
                          .tokens = 200.0 * random.uniform()});
  }
  return candidates;
}

}  // namespace

TEST_CASE("schedule: everybody once, groups of one class and nearly one size, the dearest first") {
  core::SplitMix64 random(3);
  for (int round = 0; round < 50; ++round) {
    const simulation::Grouping grouping = {.most = 1 + random.below(9),
                                           .full_pass = random.below(2) == 0 ? 0.0 : 256.0,
                                           .workers = 1 + random.below(5)};
    const auto candidates = random_candidates(random.below(60), random);
    std::map<std::string, Candidate> left;
    for (const Candidate& candidate : candidates) left[candidate.client] = candidate;
    std::map<int, std::vector<std::size_t>> sizes;
    double before = 1e9;
    for (const Slot& slot : simulation::schedule(candidates, grouping)) {
      CHECK(slot.size() <= grouping.most);
      CHECK(std::ranges::is_sorted(slot));
      const int own_class = left.at(slot.front()).group_class;
      if (own_class < 0) CHECK(slot.size() == 1);
      if (own_class >= 0) sizes[own_class].push_back(slot.size());
      double cost = 0.0;
      for (const std::string& client : slot) {
        CHECK(left.at(client).group_class == own_class);
        cost += left.at(client).cost;
        left.erase(client);
      }
      CHECK(cost <= before);
      before = cost;
    }
    CHECK(left.empty());
    for (const auto& [own_class, of_class] : sizes) {
      const auto [least, largest] = std::ranges::minmax(of_class);
      CHECK(largest - least <= 1);
    }
  }
}

TEST_CASE("schedule: who trains together does not depend on costs") {
  core::SplitMix64 random(4);
  auto candidates = random_candidates(40, random);
  auto slots = simulation::schedule(candidates, {.most = 4});
  for (Candidate& candidate : candidates) candidate.cost = random.uniform();
  auto others = simulation::schedule(candidates, {.most = 4});
  std::ranges::sort(slots);
  std::ranges::sort(others);
  CHECK(slots == others);
}

TEST_CASE("schedule: groups fill a pass, and keep every worker busy") {
  const auto sizes = [](std::size_t count, double tokens, const simulation::Grouping& grouping) {
    std::vector<Candidate> candidates;
    candidates.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      candidates.push_back({.client = "client-" + std::to_string(1000 + i),
                            .cost = 1.0,
                            .group_class = 0,
                            .tokens = tokens});
    }
    std::vector<std::size_t> found;
    for (const Slot& slot : simulation::schedule(candidates, grouping))
      found.push_back(slot.size());
    std::ranges::sort(found);
    return found;
  };
  using Sizes = std::vector<std::size_t>;
  const simulation::Grouping two = {.most = 32, .full_pass = 256.0, .workers = 2};
  CHECK(sizes(10, 32.0, two) == Sizes{5, 5});
  CHECK(sizes(10, 1.0, two) == Sizes{5, 5});
  CHECK(sizes(10, 60.0, two) == Sizes{2, 2, 3, 3});  // three would fill it, four are worked at
  CHECK(sizes(5, 300.0, two) == Sizes(5, 1));
  CHECK(sizes(3, 8.0, {.most = 32, .full_pass = 256.0, .workers = 16}) == Sizes(3, 1));
  CHECK(sizes(100, 1.0, {.most = 32, .full_pass = 256.0, .workers = 1}) == Sizes(4, 25));
}
