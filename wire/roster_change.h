#pragma once
// A change of the roster while a federation runs: signed, numbered, each naming the one before
// (docs/membership.md).

#include <string>

#include "core/expected.h"
#include "crypto/roster.h"
#include "wire/messages.h"

namespace drystone::wire {

enum class RosterAction : std::uint8_t {
  Add,     ///< a party that was not there
  Revoke,  ///< refused from now on
  Renew,   ///< another key under the same name; the old one is refused from now on
  Edit,    ///< the coordinator's own note that roster.toml was changed between two starts
};

/// Signed by the coordinator's key (domain "roster", context: zero digest).
struct RosterChange {
  std::string federation;    ///< hex id
  std::uint64_t number = 0;  ///< 1-based
  core::Digest previous{};   ///< SHA-256 of the bytes of the change before; of the first one zeros
  core::Digest roster{};     ///< crypto::digest of the roster with this change
  RosterAction action = RosterAction::Add;
  crypto::RosterEntry entry = {};  ///< Revoke: its name alone; Edit: nothing
  crypto::PublicKey old_curve{};   ///< Revoke, Renew: nobody may use these any more
  crypto::PublicKey old_signing{};

  bool has_new_keys() const { return action == RosterAction::Add || action == RosterAction::Renew; }
  bool has_old_keys() const {
    return action == RosterAction::Revoke || action == RosterAction::Renew;
  }
};

/// As of the other signed parts (wire/messages.h).
core::Bytes encode(const RosterChange& change);
core::Expected<RosterChange> decode_roster_change(core::ByteView bytes);

/// What plans and versions name a change by.
RosterMark mark_of(const RosterChange& change, core::ByteView bytes);

}  // namespace drystone::wire
