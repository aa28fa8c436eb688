#include "wire/roster_change.h"

#include <algorithm>
#include <limits>

#include "crypto/hash.h"
#include "crypto/names.h"
#include "wire/codec.h"
#include "wire/limits.h"
#include "wire/protocol.capnp.h"

namespace drystone::wire {

namespace {

RosterAction read_action(schema::RosterAction action) {
  switch (action) {
    case schema::RosterAction::ADD: return RosterAction::Add;
    case schema::RosterAction::REVOKE: return RosterAction::Revoke;
    case schema::RosterAction::RENEW: return RosterAction::Renew;
    case schema::RosterAction::EDIT: return RosterAction::Edit;
  }
  malformed("action: " + std::to_string(static_cast<unsigned>(action)) + " is unknown");
}

schema::RosterAction to_schema(RosterAction action) {
  switch (action) {
    case RosterAction::Add: return schema::RosterAction::ADD;
    case RosterAction::Revoke: return schema::RosterAction::REVOKE;
    case RosterAction::Renew: return schema::RosterAction::RENEW;
    case RosterAction::Edit: break;
  }
  return schema::RosterAction::EDIT;
}

crypto::PublicKey read_key(capnp::Data::Reader data, std::string_view field) {
  crypto::PublicKey key{};
  if (data.size() != key.size()) malformed(std::string(field) + ": not a key");
  std::ranges::copy(data, key.begin());
  return key;
}

std::int64_t read_count(std::uint64_t count, std::string_view field) {
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (count > kMost) malformed(std::string(field) + ": out of range");
  return static_cast<std::int64_t>(count);
}

crypto::Role read_role(schema::Role role) {
  switch (role) {
    case schema::Role::TRAIN: return crypto::Role::Train;
    case schema::Role::EVALUATE: return crypto::Role::Evaluate;
  }
  malformed("role: " + std::to_string(static_cast<unsigned>(role)) + " is unknown");
}

RosterChange read_change(schema::RosterChange::Reader reader) {
  RosterChange change;
  change.federation = read_text(reader.getFederation(), kMaxNameBytes, "federation");
  change.number = reader.getNumber();
  if (change.number == 0) malformed("number: 0");
  change.previous = read_digest(reader.getPrevious(), "previous");
  change.roster = read_digest(reader.getRoster(), "roster");
  change.action = read_action(reader.getAction());
  std::string& name = change.entry.identity.name;
  name = read_text(reader.getName(), kMaxNameBytes, "name");
  const bool has_name = change.action != RosterAction::Edit;
  if (has_name ? !crypto::is_party_name(name) : !name.empty()) malformed("name: not a party's");
  if (change.has_new_keys()) {
    change.entry.identity.curve = read_key(reader.getCurve(), "curve");
    change.entry.identity.signing = read_key(reader.getSigning(), "signing");
    change.entry.role = read_role(reader.getRole());
    change.entry.max_rank = read_count(reader.getMaxRank(), "max_rank");
    change.entry.max_examples = read_count(reader.getMaxExamples(), "max_examples");
    change.entry.has_own_settings = reader.getOwnSettings();
  }
  if (change.has_old_keys()) {
    change.old_curve = read_key(reader.getOldCurve(), "old_curve");
    change.old_signing = read_key(reader.getOldSigning(), "old_signing");
  }
  return change;  // what an action does not have is found by the canonical form
}

}  // namespace

core::Bytes encode(const RosterChange& change) {
  capnp::MallocMessageBuilder message;
  auto builder = message.initRoot<schema::RosterChange>();
  builder.setFederation(change.federation);
  builder.setNumber(change.number);
  builder.setPrevious(as_data(change.previous));
  builder.setRoster(as_data(change.roster));
  builder.setAction(to_schema(change.action));
  const crypto::RosterEntry& entry = change.entry;
  builder.setName(entry.identity.name);
  if (change.has_new_keys()) {
    builder.setCurve(as_data(entry.identity.curve));
    builder.setSigning(as_data(entry.identity.signing));
    builder.setRole(entry.role == crypto::Role::Train ? schema::Role::TRAIN
                                                      : schema::Role::EVALUATE);
    builder.setMaxRank(static_cast<std::uint64_t>(entry.max_rank));
    builder.setMaxExamples(static_cast<std::uint64_t>(entry.max_examples));
    builder.setOwnSettings(entry.has_own_settings);
  }
  if (change.has_old_keys()) {
    builder.setOldCurve(as_data(change.old_curve));
    builder.setOldSigning(as_data(change.old_signing));
  }
  return canonical_bytes(builder.asReader(), kMaxRosterChangeBytes, "RosterChange");
}

core::Expected<RosterChange> decode_roster_change(core::ByteView bytes) {
  return decode_signed<schema::RosterChange>(bytes, kMaxRosterChangeBytes, read_change);
}

RosterMark mark_of(const RosterChange& change, core::ByteView bytes) {
  return {.change = change.number, .digest = crypto::sha256(bytes)};
}

}  // namespace drystone::wire
