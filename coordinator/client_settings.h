#pragma once
// What plans and tasks say of the settings that each client trains with.

#include <set>
#include <string>
#include <vector>

#include "core/bytes.h"
#include "core/client_list.h"
#include "core/config.h"
#include "crypto/roster.h"

namespace drystone::coordinator {

/// core::settings_text of the listed clients, one text for each kind of them. Immutable.
class ClientSettings {
 public:
  ClientSettings(const core::Config& config, const crypto::Roster& roster);

  /// nullptr: not listed, or left its own by the roster.
  const std::string* text(const std::string& client) const;
  /// RoundPlan::settings of a cohort: the texts' SHA-256, zeros for those that have none; empty if
  /// nobody in the roster has one.
  std::vector<core::Digest> digests(const std::vector<std::string>& cohort) const;

 private:
  core::ClientList list_;
  std::vector<std::string> texts_;     ///< by kind
  std::vector<core::Digest> digests_;  ///< likewise
  std::set<std::string> own_;          ///< whom the roster leaves their own
  bool is_any_ = false;
};

}  // namespace drystone::coordinator
