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
  for (std::size_t i = 0; i < count; ++i) {
    candidates.push_back({.client = "client-" + std::to_string(1000 + i),
                          .cost = random.uniform(),
                          .group_class = static_cast<int>(random.below(3)) - 1});
  }
  return candidates;
}

}  // namespace

TEST_CASE("schedule: everybody once, groups of one class and nearly one size, the dearest first") {
  core::SplitMix64 random(3);
  for (int round = 0; round < 50; ++round) {
    const std::size_t most = 1 + random.below(9);
    const auto candidates = random_candidates(random.below(60), random);
    std::map<std::string, Candidate> left;
    for (const Candidate& candidate : candidates) left[candidate.client] = candidate;
    std::map<int, std::vector<std::size_t>> sizes;
    double before = 1e9;
    for (const Slot& slot : simulation::schedule(candidates, most)) {
      CHECK(slot.size() <= most);
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
  auto slots = simulation::schedule(candidates, 4);
  for (Candidate& candidate : candidates) candidate.cost = random.uniform();
  auto others = simulation::schedule(candidates, 4);
  std::ranges::sort(slots);
  std::ranges::sort(others);
  CHECK(slots == others);
}
