#include "coordinator/membership_keeper.h"

#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/log.h"

namespace drystone::coordinator {

namespace {

constexpr core::Instant kLooksEvery = std::chrono::milliseconds(500);

std::filesystem::file_time_type changed_at(const std::filesystem::path& file) {
  std::error_code absent;  // the earliest time there is
  return std::filesystem::last_write_time(file, absent);
}

}  // namespace

MembershipKeeper::MembershipKeeper(Store& store, const crypto::Identity& coordinator,
                                   const crypto::Roster& roster, std::string federation,
                                   Places places)
    : store_(store),
      membership_(roster, std::move(federation), coordinator.public_part.signing),
      roster_file_(std::move(places.roster_file)),
      read_(crypto::digest(roster)) {
  membership_.resume(store_.roster_changes());
  if (!places.inbox.empty()) {
    inbox_.emplace(places.inbox);
    changed_at_ = changed_at(roster_file_);
    inbox_->remove(membership_.mark().change);  // a crash came between storing and removing it
    take_all(/*is_collecting=*/true);
  }
  if (!membership_.is_as_signed()) note_edit(coordinator);
}

void MembershipKeeper::note_edit(const crypto::Identity& coordinator) {
  const wire::RosterChange change = membership_.edit();
  const wire::Signed note = sign(coordinator, change);
  store_.save_roster_change(change, note, /*drops_update=*/false);
  membership_.apply(change, note.bytes);
  core::log_info("the roster has changed", {{"what", std::string_view(to_text(change))}});
}

std::optional<core::Instant> MembershipKeeper::due() const {
  return inbox_ ? std::optional(due_) : std::nullopt;
}

std::vector<wire::RosterChange> MembershipKeeper::take(core::Instant now, bool is_collecting) {
  if (!inbox_ || now < due_) return {};
  due_ = now + kLooksEvery;
  look_at_roster_file();
  return take_all(is_collecting);
}

std::vector<wire::RosterChange> MembershipKeeper::take_all(bool is_collecting) {
  std::vector<wire::RosterChange> changes;
  try {
    while (auto change = take_next(is_collecting)) changes.push_back(std::move(*change));
    is_failing_ = false;
  } catch (const core::IoError& error) {  // e.g. a full disk; the file stays
    if (!std::exchange(is_failing_, true)) {
      core::log_error("a roster change cannot be taken up yet", {{"reason", error.what()}});
    }
  }
  return changes;
}

std::optional<wire::RosterChange> MembershipKeeper::take_next(bool is_collecting) {
  const std::uint64_t number = membership_.mark().change + 1;
  if (!inbox_->contains(number)) return std::nullopt;
  const auto signed_change = inbox_->read(number);
  const auto change = signed_change ? membership_.check(*signed_change)
                                    : tl::make_unexpected(signed_change.error());
  if (!change) {
    inbox_->set_aside(number);
    const std::string file = inbox_->refused_file(number).string();
    core::log_warning("a roster change is refused; nothing has changed",
                      {{"file", std::string_view(file)},
                       {"reason", std::string_view(core::name(change.error().code))},
                       {"detail", std::string_view(change.error().detail)}});
    return std::nullopt;
  }
  store_.save_roster_change(*change, *signed_change, is_collecting);
  membership_.apply(*change, signed_change->bytes);
  inbox_->remove(number);
  return *change;
}

void MembershipKeeper::look_at_roster_file() {
  const auto now = changed_at(roster_file_);
  if (std::exchange(changed_at_, now) == now) return;
  std::string detail =
      "it counts from the next start; `drystone keys` changes who may take part "
      "while the coordinator runs";
  try {
    if (crypto::digest(crypto::load_roster(roster_file_)) == read_) return;
  } catch (const core::Error& error) {
    detail = std::string(error.what()) + "; mend it before the next start";
  }
  core::log_warning("roster.toml was changed by hand", {{"detail", std::string_view(detail)}});
}

}  // namespace drystone::coordinator
