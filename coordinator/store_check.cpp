#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/store.h"
#include "coordinator/store_database.h"

namespace drystone::coordinator {

namespace {

bool is_report(std::uint64_t version, const std::string& text) {
  if (version == 0) return true;
  try {
    static_cast<void>(round_from_json(text));
    return true;
  } catch (const core::Error&) {
    return false;
  }
}

std::optional<std::string> broken_link(const std::vector<wire::Signed>& changes,
                                       const crypto::PublicKey& coordinator) {
  std::uint64_t number = 0;
  core::Digest previous{};
  for (const wire::Signed& stored : changes) {
    const std::string name = "roster change " + std::to_string(++number);
    const auto change = wire::decode_roster_change(stored.bytes);
    if (!change || change->number != number || change->previous != previous) {
      return name + " does not follow the one before";
    }
    if (!crypto::verify(coordinator, "roster", core::Digest{}, stored.bytes, stored.signature)) {
      return name + " is not signed by the coordinator";
    }
    previous = wire::mark_of(*change, stored.bytes).digest;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> Store::inconsistency() const {
  const auto first = [&](const char* sql) -> std::optional<std::string> {
    Statement row(db_->db, sql);
    return row.step() ? std::optional(row.text(0)) : std::nullopt;
  };
  if (const auto found = first("PRAGMA integrity_check"); found != "ok") return found;
  Statement versions(db_->db,
                     "SELECT version, head, payload, manifest, report FROM versions "
                     "ORDER BY version");
  for (std::uint64_t next = 0; versions.step(); ++next) {
    if (versions.integer(0) != next) return "version " + std::to_string(next) + " is missing";
    if (!is_report(next, versions.text(4))) {
      return "the report of version " + std::to_string(next) + " is none";
    }
    const auto manifest = wire::decode_version(versions.blob(3));
    const bool agrees = manifest && manifest->version == versions.integer(0) &&
                        manifest->head == fixed<core::Digest>(versions.blob(1)) &&
                        manifest->payload == fixed<core::Digest>(versions.blob(2));
    if (!agrees) return "version " + versions.text(0) + "'s row differs from what was signed";
  }
  const auto unplanned = first(
      "SELECT version FROM versions LEFT JOIN plans ON round = version "
      "WHERE version > 0 AND round IS NULL");
  if (unplanned) return "round " + *unplanned + "'s plan is missing";
  Statement plans(db_->db, "SELECT round, attempt, is_open, plan FROM plans");
  const std::uint64_t newest = load().version;
  while (plans.step()) {
    const auto plan = wire::decode_plan(plans.blob(3));
    const bool agrees = plan && plan->round == plans.integer(0) &&
                        plan->attempt == plans.integer(1) &&
                        plans.integer(2) == (plan->base_version == newest ? 1 : 0);
    if (!agrees) return "round " + plans.text(0) + "'s row differs from what was signed";
  }
  Statement updates(db_->db,
                    "SELECT round, client, attempt, payload, num_examples, manifest FROM updates");
  while (updates.step()) {
    const auto manifest = wire::decode_update(updates.blob(5));
    const bool agrees = manifest && manifest->round == updates.integer(0) &&
                        manifest->client == updates.text(1) &&
                        manifest->attempt == updates.integer(2) &&
                        manifest->payload == fixed<core::Digest>(updates.blob(3)) &&
                        manifest->num_examples == updates.integer(4);
    if (!agrees) return "the row of " + updates.text(1) + "'s update differs from what was signed";
  }
  Statement evaluations(db_->db, "SELECT version, client, evidence FROM evaluations");
  while (evaluations.step()) {
    const auto manifest = wire::decode_evaluation(evaluations.blob(2));
    const bool agrees = manifest && manifest->version == evaluations.integer(0) &&
                        manifest->client == evaluations.text(1);
    if (!agrees) return "a row of an evaluation differs from what was signed";
  }
  return broken_link(roster_changes(), coordinator());
}

}  // namespace drystone::coordinator
