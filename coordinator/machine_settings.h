#pragma once
// What a configuration and a roster ask of the round machine.

#include <map>
#include <string>

#include "coordinator/round_machine.h"
#include "core/config.h"
#include "crypto/roster.h"

namespace drystone::coordinator {

/// core::settings_text of each listed client, but for those whom the roster leaves their own.
std::map<std::string, std::string> settings_of(const core::Config& config,
                                               const crypto::Roster& roster);

/// @throws core::ConfigError  what no round could keep: more updates than there are trainers, a
/// cohort that fits no plan
MachineSettings machine_settings(const core::Config& config, const crypto::Roster& roster);

}  // namespace drystone::coordinator
