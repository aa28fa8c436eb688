#include "coordinator/gate.h"

#include <algorithm>

#include "aggregation/gate_checks.h"
#include "aggregation/update_norms.h"
#include "core/check.h"
#include "core/mapped_file.h"

namespace drystone::coordinator {

using core::Refusal;
using core::refuse;

namespace {
constexpr std::size_t kRememberedPlans = 16;
constexpr std::int64_t kLargestRank = 65'536;  // of a configuration; more is no quota
}  // namespace

Gate::Gate(const crypto::Roster& roster, aggregation::AdapterLayout layout, double max_norm)
    : roster_(roster), layout_(std::move(layout)), max_norm_(max_norm) {}

void Gate::open(const wire::RoundPlan& plan, core::ByteView plan_bytes) {
  close();
  open_round_ = plan.round;
  open_transcript_ = wire::transcript(plan_bytes);
}

void Gate::close() {
  if (open_round_ != 0) earlier_.emplace_back(open_round_, open_transcript_);
  if (earlier_.size() > kRememberedPlans) earlier_.pop_front();
  open_round_ = 0;
}

core::Expected<wire::UpdateManifest> Gate::check_offer(const std::string& client,
                                                       const wire::Signed& offer,
                                                       const OpenRound& round) const {
  const crypto::RosterEntry sender = entry(client);
  if (sender.role != crypto::Role::Train) {
    return refuse(Refusal::WrongRole, client + " may evaluate, not train");
  }
  const auto signed_under = [&](const core::Digest& transcript) {
    return crypto::verify(sender.identity.signing, "update", transcript, offer.bytes,
                          offer.signature);
  };
  if (!signed_under(open_transcript_)) {
    for (const auto& [number, transcript] : earlier_) {
      if (signed_under(transcript)) {
        return refuse(Refusal::RoundClosed, "round " + std::to_string(number) + " is closed");
      }
    }
    return refuse(Refusal::BadSignature, "signature does not verify over the round's transcript");
  }
  auto manifest = wire::decode_update(offer.bytes);
  if (!manifest) return manifest;
  if (manifest->client != client) {
    return refuse(Refusal::UnknownClient, "signed as " + manifest->client + ", sent by " + client);
  }
  if (manifest->round != round.plan.round || manifest->attempt != round.plan.attempt) {
    return refuse(Refusal::RoundClosed,
                  "round " + std::to_string(manifest->round) + " is not open");
  }
  if (!std::ranges::binary_search(round.plan.cohort, client)) {
    return refuse(Refusal::NotInCohort, "not asked in round " + std::to_string(round.plan.round));
  }
  if (round.accepted.contains(client)) {
    return refuse(Refusal::Replay, "an update of this round is already accepted");
  }
  if (manifest->base_version != round.plan.base_version) {
    return refuse(Refusal::WrongBase, "trained from version " +
                                          std::to_string(manifest->base_version) + ", plan says " +
                                          std::to_string(round.plan.base_version));
  }
  if (sender.max_rank < 1) {
    return refuse(Refusal::RankAboveQuota, "the roster grants " + client + " no update");
  }
  const auto most =
      aggregation::max_payload_bytes(layout_, std::min(sender.max_rank, kLargestRank));
  if (manifest->payload_bytes > most) {
    return refuse(Refusal::TooLarge, "claims " + std::to_string(manifest->payload_bytes) +
                                         " bytes; rank " + std::to_string(sender.max_rank) +
                                         " allows " + std::to_string(most));
  }
  const auto cap = static_cast<std::uint64_t>(sender.max_examples);
  if (manifest->num_examples == 0 || (cap != 0 && manifest->num_examples > cap)) {
    return refuse(Refusal::ExamplesAboveCap, "claims " + std::to_string(manifest->num_examples) +
                                                 " examples, cap is " + std::to_string(cap));
  }
  return manifest;
}

PayloadVerdict Gate::check_payload(std::int64_t max_rank,
                                   const std::filesystem::path& payload) const {
  const core::MappedFile file(payload);
  auto checked = aggregation::check_payload(file.bytes(), layout_, max_rank);
  if (!checked) return tl::make_unexpected(checked.error());
  if (max_norm_ == 0.0) return std::nullopt;
  return aggregation::check_norms(tensors::FactorSetFile(payload), layout_, max_norm_);
}

crypto::RosterEntry Gate::entry(const std::string& client) const {
  auto found = roster_.find(client);
  core::ensure(found.has_value(), "Gate: the transport let an unknown client through");
  return *std::move(found);
}

}  // namespace drystone::coordinator
