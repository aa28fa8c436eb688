#pragma once
// The checks on an arriving update, cheap to dear, before anything is allocated for it or stored
// (aggregation-and-privacy D.1). A refusal leaves no trace in the state.

#include <deque>
#include <filesystem>
#include <optional>
#include <string>

#include "aggregation/layout.h"
#include "coordinator/round_machine.h"
#include "core/expected.h"
#include "crypto/roster.h"
#include "wire/messages.h"

namespace drystone::coordinator {

/// How large a payload is that passed; nothing is measured where aggregation.max_norm is 0.
using PayloadVerdict = core::Expected<std::optional<aggregation::UpdateNorms>>;

/// Guards one federation. Not thread-safe except check_payload, which reads nothing that changes.
class Gate {
 public:
  /// `layout` fixes the module names, shapes and dense parts of every update.
  /// @param max_norm  aggregation.max_norm: see aggregation::check_norms
  /// @param roster    outlives the gate; it may change between calls
  Gate(const crypto::Roster& roster, aggregation::AdapterLayout layout, double max_norm = 0.0);

  /// Tells the gate which round is open (its canonical plan bytes define T_r); earlier rounds are
  /// remembered a while so that a late update is told "round-closed" and not "bad-signature".
  void open(const wire::RoundPlan& plan, core::ByteView plan_bytes);
  void close();

  /// Steps 2–4 and 7, without the payload: identity and role, signature over T_r, open round,
  /// asked, not seen, base version, a claimed size that the plan and the client's quota allow,
  /// examples.
  core::Expected<wire::UpdateManifest> check_offer(const std::string& client,
                                                   const wire::Signed& offer,
                                                   const OpenRound& round) const;

  /// Steps 4–6 on the received bytes: header and layout, rank quota, finite, gauge, norms.
  /// @param max_rank  quota of the client whose it is
  PayloadVerdict check_payload(std::int64_t max_rank, const std::filesystem::path& payload) const;
  /// The client's quota of rank. It must be in the roster.
  std::int64_t max_rank(const std::string& client) const { return entry(client).max_rank; }

 private:
  crypto::RosterEntry entry(const std::string& client) const;

  const crypto::Roster& roster_;
  aggregation::AdapterLayout layout_;
  double max_norm_;
  std::uint64_t open_round_ = 0;  ///< 0: none
  core::Digest open_transcript_{};
  /// Round and T_r of the last plans, each attempt's own.
  std::deque<std::pair<std::uint64_t, core::Digest>> earlier_;
};

}  // namespace drystone::coordinator
