#pragma once
// A coordinator's membership between its state and the operator's files: takes signed changes up
// while it runs, each stored before it counts.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/change_inbox.h"
#include "coordinator/membership.h"
#include "coordinator/store.h"
#include "core/clock.h"
#include "crypto/identity.h"

namespace drystone::coordinator {

/// Not thread-safe; the store outlives it.
class MembershipKeeper {
 public:
  struct Places {
    std::filesystem::path inbox;        ///< state folder; empty: nothing is taken up
    std::filesystem::path roster_file;  ///< told of when it is changed by hand
  };

  /// Takes up what the store holds and what was left while nobody ran, and signs a note of a
  /// roster.toml that was changed by hand after the last change.
  /// @param roster  of roster.toml
  /// @throws core::IoError, core::ConfigError  as Membership::resume
  MembershipKeeper(Store& store, const crypto::Identity& coordinator, const crypto::Roster& roster,
                   std::string federation, Places places);

  const Membership& membership() const { return membership_; }
  bool takes_changes() const { return inbox_.has_value(); }
  /// When take() looks again.
  std::optional<core::Instant> due() const;
  /// The changes that count from now on; each is stored. Looks at two names at most twice a second.
  /// What is no valid next change is set aside with a line in the log; what cannot be stored is
  /// tried again.
  /// @param is_collecting  a round takes updates: those of whom a change revokes go with it
  std::vector<wire::RosterChange> take(core::Instant now, bool is_collecting);

 private:
  std::vector<wire::RosterChange> take_all(bool is_collecting);
  std::optional<wire::RosterChange> take_next(bool is_collecting);
  void note_edit(const crypto::Identity& coordinator);
  void look_at_roster_file();

  Store& store_;
  Membership membership_;
  std::optional<ChangeInbox> inbox_;
  std::filesystem::path roster_file_;
  core::Digest read_;  ///< of roster.toml as it was read
  std::filesystem::file_time_type changed_at_{};
  core::Instant due_{};
  bool is_failing_ = false;
};

}  // namespace drystone::coordinator
