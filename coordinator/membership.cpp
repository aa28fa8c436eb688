#include "coordinator/membership.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace drystone::coordinator {

using core::Refusal;
using core::refuse;
using wire::RosterAction;

namespace {

constexpr core::Digest kRosterContext{};

std::string numbered(std::uint64_t number) { return "change " + std::to_string(number); }

bool is_signed(const wire::Signed& change, const crypto::PublicKey& signer) {
  return crypto::verify(signer, "roster", kRosterContext, change.bytes, change.signature);
}

/// As the roster is once `change` counts.
crypto::Roster changed(crypto::Roster roster, const wire::RosterChange& change) {
  const std::string& name = change.entry.identity.name;
  if (change.has_new_keys()) roster.clients[name] = change.entry;
  if (change.action == RosterAction::Revoke) roster.clients.erase(name);
  return roster;
}

}  // namespace

Membership::Membership(crypto::Roster roster, std::string federation, crypto::PublicKey coordinator)
    : roster_(std::move(roster)), federation_(std::move(federation)), coordinator_(coordinator) {}

core::Expected<void> Membership::check_keys(const crypto::PublicIdentity& identity) const {
  if (revoked_.contains(identity.curve) || revoked_.contains(identity.signing)) {
    return refuse(Refusal::Replay, identity.name +
                                       ": this key was revoked and stays so; make a new one "
                                       "(`drystone keys request`)");
  }
  const std::string owner = crypto::owner_of_keys(roster_, identity);
  if (owner.empty()) return {};
  return refuse(Refusal::Replay, identity.name + ": the same key as client " + owner +
                                     "; every client needs its own");
}

core::Expected<void> Membership::check_action(const wire::RosterChange& change) const {
  const crypto::PublicIdentity& party = change.entry.identity;
  const auto found = roster_.clients.find(party.name);
  const bool is_there = found != roster_.clients.end();
  if (change.action == RosterAction::Add && is_there) {
    return refuse(Refusal::Replay, party.name + ": is in the roster already");
  }
  if (change.has_old_keys()) {
    if (!is_there) return refuse(Refusal::UnknownClient, party.name + ": is not in the roster");
    if (found->second.identity.curve != change.old_curve ||
        found->second.identity.signing != change.old_signing) {
      return refuse(Refusal::PlanMismatch, party.name + ": has another key by now");
    }
  }
  if (change.has_new_keys()) return check_keys(party);
  return {};
}

core::Expected<wire::RosterChange> Membership::check(const wire::Signed& signed_change) const {
  if (!is_signed(signed_change, coordinator_)) {
    return refuse(Refusal::BadSignature,
                  "is not signed by the coordinator's key: it was edited or damaged");
  }
  auto change = wire::decode_roster_change(signed_change.bytes);
  if (!change) return change;
  const auto no = [](std::string why) { return refuse(Refusal::PlanMismatch, std::move(why)); };
  if (change->federation != federation_) return no("is of another federation");
  if (change->number != mark_.change + 1) {
    return no("is " + numbered(change->number) + ", the next one is " + numbered(mark_.change + 1));
  }
  if (change->previous != mark_.digest) return no("follows another change than the last one");
  if (change->action == RosterAction::Edit) return no("is a note of the coordinator's own");
  if (const auto allowed = check_action(*change); !allowed) {
    return tl::make_unexpected(allowed.error());
  }
  if (change->roster != crypto::digest(changed(roster_, *change))) {
    return no(
        "was made for another roster: roster.toml was changed by hand while the coordinator "
        "runs; start the coordinator again, which takes that up");
  }
  return change;
}

void Membership::apply(const wire::RosterChange& change, core::ByteView bytes) {
  enter(change);
  mark_ = wire::mark_of(change, bytes);
  signed_ = change.roster;
}

void Membership::enter(const wire::RosterChange& change) {
  if (change.has_old_keys()) {
    revoked_.insert(change.old_curve);
    revoked_.insert(change.old_signing);
  }
  roster_ = changed(std::move(roster_), change);
}

void Membership::resume(std::span<const wire::Signed> changes) {
  for (const wire::Signed& signed_change : changes) {
    const auto change = wire::decode_roster_change(signed_change.bytes);
    const bool follows = is_signed(signed_change, coordinator_) && change &&
                         change->federation == federation_ && change->number == mark_.change + 1 &&
                         change->previous == mark_.digest;
    if (!follows) {
      throw core::IoError("state.sqlite: roster " + numbered(mark_.change + 1) +
                          " does not follow the one before; restore the state folder from a copy");
    }
    apply(*change, signed_change.bytes);
  }
  for (const auto& [name, entry] : roster_.clients) {
    if (!revoked_.contains(entry.identity.curve) && !revoked_.contains(entry.identity.signing)) {
      continue;
    }
    throw core::ConfigError("roster.toml: " + name +
                            ": this key was revoked and stays so; take the entry out, or have a "
                            "new key approved (`drystone keys request`)");
  }
}

wire::RosterChange Membership::next(RosterAction action, crypto::RosterEntry entry) const {
  return {.federation = federation_,
          .number = mark_.change + 1,
          .previous = mark_.digest,
          .roster = {},
          .action = action,
          .entry = std::move(entry)};
}

void Membership::finish(wire::RosterChange& change) const {
  change.roster = crypto::digest(changed(roster_, change));
}

core::Expected<wire::RosterChange> Membership::approve(const crypto::KeyRequest& request,
                                                       const Grant& grant) const {
  const std::string& name = request.identity.name;
  const auto found = roster_.clients.find(name);
  const bool is_there = found != roster_.clients.end();
  if (is_there && found->second.identity.signing == request.identity.signing) {
    return refuse(Refusal::Replay, name + ": is in the roster with this very key");
  }
  if (is_there && !request.replaces) {
    return refuse(Refusal::Replay,
                  name +
                      ": is in the roster with another key; revoke that one first, or have it "
                      "ask by `drystone keys renew`");
  }
  if (request.replaces && !is_there) {
    return refuse(Refusal::UnknownClient, name +
                                              ": asks for a new key and is not in the roster; have "
                                              "it ask by `drystone keys request`");
  }
  if (request.replaces && *request.replaces != found->second.identity.signing) {
    return refuse(Refusal::Replay, name +
                                       ": asks to replace a key that is not its present one; have "
                                       "it ask again by `drystone keys renew`");
  }
  wire::RosterChange change = next(is_there ? RosterAction::Renew : RosterAction::Add,
                                   {.identity = request.identity,
                                    .role = grant.role,
                                    .max_rank = grant.max_rank,
                                    .max_examples = grant.max_examples,
                                    .has_own_settings = grant.has_own_settings});
  if (is_there) {
    change.old_curve = found->second.identity.curve;
    change.old_signing = found->second.identity.signing;
  }
  if (const auto allowed = check_action(change); !allowed) {
    return tl::make_unexpected(allowed.error());
  }
  finish(change);
  return change;
}

core::Expected<wire::RosterChange> Membership::revoke(const std::string& client) const {
  const auto found = roster_.clients.find(client);
  if (found == roster_.clients.end()) {
    return refuse(Refusal::UnknownClient,
                  client + ": is not in the roster; `drystone keys list` shows who is");
  }
  wire::RosterChange change = next(RosterAction::Revoke, {.identity = {.name = client}});
  change.old_curve = found->second.identity.curve;
  change.old_signing = found->second.identity.signing;
  finish(change);
  return change;
}

wire::RosterChange Membership::edit() const {
  wire::RosterChange change = next(RosterAction::Edit, {});
  finish(change);
  return change;
}

wire::Signed sign(const crypto::Identity& coordinator, const wire::RosterChange& change) {
  core::Bytes bytes = wire::encode(change);
  const crypto::Signature signature = crypto::sign(coordinator, "roster", kRosterContext, bytes);
  return {std::move(bytes), signature};
}

std::size_t num_trainers(const crypto::Roster& roster) {
  return static_cast<std::size_t>(std::ranges::count_if(roster.clients, [](const auto& client) {
    return client.second.role == crypto::Role::Train && client.second.max_rank > 0;
  }));
}

std::string to_text(const wire::RosterChange& change) {
  const std::string& name = change.entry.identity.name;
  const std::string begin = numbered(change.number) + ": ";
  switch (change.action) {
    case RosterAction::Add: return begin + name + " added";
    case RosterAction::Revoke: return begin + name + " revoked";
    case RosterAction::Renew: return begin + name + " renewed";
    case RosterAction::Edit: break;
  }
  return begin + "roster.toml was changed by hand";
}

}  // namespace drystone::coordinator
