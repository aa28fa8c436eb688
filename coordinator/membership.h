#pragma once
// Who may take part now: roster.toml and the signed changes since, each of which names the one
// before (docs/membership.md). Neither I/O nor time inside.

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/expected.h"
#include "crypto/identity.h"
#include "crypto/key_request.h"
#include "crypto/roster.h"
#include "wire/roster_change.h"

namespace drystone::coordinator {

/// What an operator grants a party that is let in or renewed.
struct Grant {
  crypto::Role role = crypto::Role::Train;
  std::int64_t max_rank = 0;
  std::int64_t max_examples = 0;
  bool has_own_settings = false;
};

/// One federation's members. Not thread-safe.
class Membership {
 public:
  /// @param roster       of roster.toml
  /// @param federation   hex id
  /// @param coordinator  whose key signs the changes
  Membership(crypto::Roster roster, std::string federation, crypto::PublicKey coordinator);

  /// The roster in force.
  const crypto::Roster& roster() const { return roster_; }
  /// The last change; the default before the first.
  const wire::RosterMark& mark() const { return mark_; }
  /// Whether the roster in force is the one that the last change tells: false after roster.toml was
  /// changed by hand.
  bool is_as_signed() const { return mark_.change == 0 || crypto::digest(roster_) == signed_; }

  /// Whether `change` is the next one of this federation and leads to the roster that it tells.
  /// Refuses with BadSignature, MalformedFrame, PlanMismatch (another federation, another number,
  /// another change before, another roster), UnknownClient, Replay.
  core::Expected<wire::RosterChange> check(const wire::Signed& change) const;
  /// A change that `check` let through, or one that the state kept.
  void apply(const wire::RosterChange& change, core::ByteView bytes);
  /// Takes up what the state kept. @throws core::IoError  it is not a chain that the coordinator
  /// signed; core::ConfigError  roster.toml names a key that a change has revoked
  void resume(std::span<const wire::Signed> changes);

  /// The change that lets a party in, or gives it the key that it asks for. Refuses with
  /// UnknownClient or Replay, in words for the operator.
  core::Expected<wire::RosterChange> approve(const crypto::KeyRequest& request,
                                             const Grant& grant) const;
  core::Expected<wire::RosterChange> revoke(const std::string& client) const;
  /// That roster.toml was changed by hand while nobody ran.
  wire::RosterChange edit() const;

 private:
  void enter(const wire::RosterChange& change);
  core::Expected<void> check_keys(const crypto::PublicIdentity& identity) const;
  core::Expected<void> check_action(const wire::RosterChange& change) const;
  wire::RosterChange next(wire::RosterAction action, crypto::RosterEntry entry) const;
  void finish(wire::RosterChange& change) const;

  crypto::Roster roster_;
  std::string federation_;
  crypto::PublicKey coordinator_;
  wire::RosterMark mark_;
  core::Digest signed_{};                ///< roster digest of the last change
  std::set<crypto::PublicKey> revoked_;  ///< of both curves
};

wire::Signed sign(const crypto::Identity& coordinator, const wire::RosterChange& change);

/// Trainers that may be asked.
std::size_t num_trainers(const crypto::Roster& roster);

/// One line: "change 3: client-2 renewed".
std::string to_text(const wire::RosterChange& change);

}  // namespace drystone::coordinator
