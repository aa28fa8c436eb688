#pragma once
// One process that holds a coordinator and its clients, and everything that may happen to them.

#include <cstdint>
#include <optional>
#include <string>

#include "tests/chaos/schedule.h"

namespace drystone::chaos {

struct Outcome {
  std::optional<std::string> violation;
  double virtual_seconds = 0.0;
  std::uint64_t num_events = 0;
  std::uint64_t num_crashes = 0;
  std::uint64_t num_versions = 0;
  std::uint64_t calls_of_coordinator = 0;  ///< of its disk
  std::string head;                        ///< hex
};

/// Runs a schedule to its end; the same schedule gives the same outcome. @param tells  to stderr
Outcome run(const Schedule& schedule, bool tells = false);

}  // namespace drystone::chaos
