#pragma once
// What a configuration and a roster ask of the round machine.

#include <memory>

#include "coordinator/client_settings.h"
#include "coordinator/round_machine.h"
#include "core/config.h"
#include "crypto/roster.h"

namespace drystone::coordinator {

/// The part that changes with the roster; without number and names of the change.
MembersChanged members(const crypto::Roster& roster,
                       const std::shared_ptr<const ClientSettings>& client_settings);

/// @throws core::ConfigError  what no round could keep: more updates than there are trainers, a
/// cohort that fits no plan
MachineSettings machine_settings(const core::Config& config, const crypto::Roster& roster,
                                 const std::shared_ptr<const ClientSettings>& client_settings);

}  // namespace drystone::coordinator
