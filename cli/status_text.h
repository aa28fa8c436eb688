#pragma once
// What `drystone status` prints.

#include <string>

#include "coordinator/status.h"

namespace drystone::cli {

/// Lines for people: phase, what it waits for, a row a client.
/// @param now  for "since 2 min 10 s"
std::string to_text(const coordinator::StateStatus& found, coordinator::UnixTime now);

/// The snapshot with "is_open" and "is_live", one line.
std::string to_json(const coordinator::StateStatus& found);

}  // namespace drystone::cli
