#pragma once
// How a message gets from process 0 to all others.

#include <memory>
#include <utility>

#include "simulation/link.h"

namespace drystone::simulation {

/// To the two processes that hear it from this one: the last of n has it after log2(n) steps, and
/// no machine sends it more than twice.
inline void relay(Link& link, const std::shared_ptr<const core::Bytes>& message) {
  for (const int next : {2 * link.index() + 1, 2 * link.index() + 2}) {
    if (next < link.num_processes()) link.send(next, message);
  }
}

}  // namespace drystone::simulation
