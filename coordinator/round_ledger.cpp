#include "coordinator/round_ledger.h"

#include <chrono>

#include "core/check.h"

namespace drystone::coordinator {

namespace {

/// What the mean is relative to when clients hold the base model in different ways.
constexpr const char* kEachItsOwnBase = ", each relative to its own base";

}  // namespace

RoundLedger::RoundLedger(const core::Config& config, core::Instant now, bool is_in_round)
    : quantization_(config.model.quantization),
      listed_(config),
      since_(now),
      is_since_restart_(is_in_round) {}

// As it said; before it joined in this life, as the configuration says.
std::string RoundLedger::base_of(const std::string& client) const {
  if (const auto found = bases_.find(client); found != bases_.end()) return found->second;
  const auto number = listed_.find(client);
  return number ? listed_[*number].quantization : quantization_;
}

void RoundLedger::open() {
  by_reason_.clear();
  by_client_.clear();
}

void RoundLedger::join(const std::string& client, const wire::Hello& hello, bool is_trainer) {
  if (is_trainer) devices_[client] = hello.device;
  if (!hello.base.empty()) bases_[client] = hello.base;
}

std::uint64_t RoundLedger::refuse(const std::string& client, core::Refusal reason) {
  ++by_reason_[core::name(reason)];
  return ++by_client_[client];
}

std::uint64_t RoundLedger::num_refused(const std::string& client) const {
  const auto found = by_client_.find(client);
  return found == by_client_.end() ? 0 : found->second;
}

RoundReport RoundLedger::row(const OpenRound& round, const AggregatedRound& result,
                             const Traffic& traffic, core::Instant now) const {
  RoundReport report{.round = round.plan.round,
                     .version = round.plan.base_version + 1,
                     .asked = round.plan.cohort.size(),
                     .accepted = round.accepted.size(),
                     .rejected = by_reason_,
                     .since_restart = is_since_restart_,
                     .train_loss = 0.0,
                     .bytes_up = traffic.received - before_.received,
                     .bytes_down = traffic.sent - before_.sent,
                     .stack_rank = result.report.stack_rank,
                     .compact_rank = result.report.compact_rank,
                     .exactness = result.report.exactness,
                     .relative_error = result.report.carries ? result.report.relative_error : 0.0,
                     .seconds = std::chrono::duration<double>(now - since_).count(),
                     .lowered = result.report.lowered,
                     .zero_updates = result.zeros,
                     .eval = {}};
  double examples = 0.0;
  for (const auto& [client, update] : round.accepted) {
    const auto manifest = wire::decode_update(update.manifest);
    core::ensure(manifest.has_value(), "coordinator: unreadable manifest of an accepted update");
    const auto weight = static_cast<double>(manifest->num_examples);
    report.train_loss += weight * manifest->train_loss;
    examples += weight;
    report.client_steps += manifest->num_steps;
    report.tokens += manifest->num_tokens;
    report.passes += manifest->num_passes;
    ++report.bases[base_of(client)];
    if (const auto device = devices_.find(client); device != devices_.end()) {
      ++report.devices[device->second];
    }
  }
  report.train_loss /= examples;
  if (report.bases.size() > 1) report.exactness += kEachItsOwnBase;
  return report;
}

void RoundLedger::close(const Traffic& traffic, core::Instant now) {
  before_ = traffic;
  since_ = now;
  is_since_restart_ = false;
}

}  // namespace drystone::coordinator
