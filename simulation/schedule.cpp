#include "simulation/schedule.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

namespace drystone::simulation {

namespace {

struct Planned {
  Slot slot;
  double cost = 0.0;

  void add(const Candidate& candidate) {
    slot.push_back(candidate.client);
    cost += candidate.cost;
  }
};

std::size_t num_groups(const std::vector<const Candidate*>& members, const Grouping& grouping) {
  const auto over = [](std::size_t count, std::size_t most) { return (count + most - 1) / most; };
  std::size_t groups = over(members.size(), grouping.most);
  if (grouping.full_pass > 0.0) {
    double tokens = 0.0;
    for (const Candidate* member : members) tokens += member->tokens;
    groups = std::max(groups, static_cast<std::size_t>(std::ceil(tokens / grouping.full_pass)));
  }
  return std::min(members.size(), grouping.workers * over(groups, grouping.workers));
}

void add_groups(const std::vector<const Candidate*>& members, const Grouping& grouping,
                std::vector<Planned>& planned) {
  auto next = members.begin();
  std::size_t left = members.size();
  for (std::size_t groups = num_groups(members, grouping); groups > 0; --groups) {
    const std::size_t size = (left + groups - 1) / groups;
    Planned& group = planned.emplace_back();
    for (std::size_t i = 0; i < size; ++i) group.add(**next++);
    left -= size;
  }
}

}  // namespace

std::vector<Slot> schedule(const std::vector<Candidate>& candidates, const Grouping& grouping) {
  std::vector<Planned> planned;
  std::map<int, std::vector<const Candidate*>> classes;
  for (const Candidate& candidate : candidates) {
    if (candidate.group_class < 0 || grouping.most < 2) {
      planned.emplace_back().add(candidate);
    } else {
      classes[candidate.group_class].push_back(&candidate);
    }
  }
  for (const auto& [number, members] : classes) add_groups(members, grouping, planned);
  std::ranges::stable_sort(planned, std::greater(), &Planned::cost);
  std::vector<Slot> slots;
  slots.reserve(planned.size());
  for (Planned& one : planned) slots.push_back(std::move(one.slot));
  return slots;
}

}  // namespace drystone::simulation
