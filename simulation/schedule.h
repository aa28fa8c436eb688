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
  double tokens = 0.0;  ///< of a mini-batch
};

/// Bounds of the groups of a class.
struct Grouping {
  std::size_t most = 1;  ///< clients in a group
  /// Tokens of a group's mini-batches together beyond which a pass gains nothing; 0: no bound.
  double full_pass = 0.0;
  /// As many groups, or a multiple, as far as there are clients: all have one to work at.
  std::size_t workers = 1;
};

/// Clients who train together: one, or a group.
using Slot = std::vector<std::string>;

/// As few groups of a class as the bounds allow, equally large, in the order of names, so that the
/// bits do not depend on who is ready first; then the slots by cost, the dearest first, so that no
/// worker is left with a long one at the end.
/// @param candidates  sorted by name
std::vector<Slot> schedule(const std::vector<Candidate>& candidates, const Grouping& grouping);

}  // namespace drystone::simulation
