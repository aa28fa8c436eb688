#pragma once
// In which order a round's clients train, and who with whom.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace drystone::simulation {

/// A client that is asked, as far as the schedule goes.
struct Candidate {
  std::string client;
  double cost = 0.0;  ///< of its training, in any unit
  /// Clients of one class may share passes through the base; negative: trains alone.
  int group_class = -1;
};

/// Clients who train together: one, or a group.
using Slot = std::vector<std::string>;

/// As few groups as hold a class, equally large, in the order of names, so that the bits do not
/// depend on who is ready first; then the slots by cost, the dearest first, so that no worker is
/// left with a long one at the end.
/// @param candidates  sorted by name
/// @param most        clients in a group
std::vector<Slot> schedule(const std::vector<Candidate>& candidates, std::size_t most);

}  // namespace drystone::simulation
