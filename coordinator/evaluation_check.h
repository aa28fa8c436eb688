#pragma once
// The checks on a signed evaluation, before anything of it is stored.

#include <string>

#include "coordinator/store.h"
#include "core/expected.h"
#include "crypto/roster.h"
#include "wire/messages.h"

namespace drystone::coordinator {

/// Role, name, metrics' names, a published version that nobody of this name has evaluated, and the
/// signature over that version's head. @param sender  the roster's entry of `client`
core::Expected<StoredEvaluation> check_evaluation(const std::string& client,
                                                  const crypto::RosterEntry& sender,
                                                  const wire::Signed& evaluation,
                                                  const RoundMachine& machine, const Store& store);

}  // namespace drystone::coordinator
