#include "simulation/schedule.h"

#include <algorithm>
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

void add_groups(const std::vector<const Candidate*>& members, std::size_t most,
                std::vector<Planned>& planned) {
  auto next = members.begin();
  std::size_t left = members.size();
  for (std::size_t groups = (left + most - 1) / most; groups > 0; --groups) {
    const std::size_t size = (left + groups - 1) / groups;
    Planned& group = planned.emplace_back();
    for (std::size_t i = 0; i < size; ++i) group.add(**next++);
    left -= size;
  }
}

}  // namespace

std::vector<Slot> schedule(const std::vector<Candidate>& candidates, std::size_t most) {
  std::vector<Planned> planned;
  std::map<int, std::vector<const Candidate*>> classes;
  for (const Candidate& candidate : candidates) {
    if (candidate.group_class < 0 || most < 2) {
      planned.emplace_back().add(candidate);
    } else {
      classes[candidate.group_class].push_back(&candidate);
    }
  }
  for (const auto& [number, members] : classes) add_groups(members, most, planned);
  std::ranges::stable_sort(planned, std::greater(), &Planned::cost);
  std::vector<Slot> slots;
  slots.reserve(planned.size());
  for (Planned& one : planned) slots.push_back(std::move(one.slot));
  return slots;
}

}  // namespace drystone::simulation
