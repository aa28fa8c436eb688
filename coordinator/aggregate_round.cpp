#include "coordinator/aggregate_round.h"

#include "aggregation/gate_checks.h"
#include "aggregation/rules.h"
#include "core/error.h"
#include "core/files.h"
#include "tensors/safetensors.h"
#include "tensors/zero_update.h"
#include "wire/durable_file.h"

namespace drystone::coordinator {

namespace {

/// What would reach every client: no NaN, no infinity.
std::optional<std::string> what_is_not_finite(const std::filesystem::path& payload) {
  const tensors::SafetensorsFile file(payload);
  for (const auto& [key, info] : file.header().tensors) {
    if (info.dtype != at::ScalarType::Float) continue;
    const auto finite =
        aggregation::check_finite(tensors::tensor_bytes(file.header(), info, file.bytes()));
    if (!finite) return key + ": " + finite.error().detail;
    file.forget_pages();
  }
  return std::nullopt;
}

// The carry's SHA-256 beside it: no database row and no signature names it.
std::filesystem::path sum_of(const std::filesystem::path& carry) {
  return carry.string() + ".sha256";
}

void check_carry(const std::filesystem::path& carry) {
  const std::filesystem::path sum = sum_of(carry);
  if (!std::filesystem::exists(sum)) return;  // of an earlier version of the program
  constexpr std::uint64_t kMaxSumBytes = 1024;
  if (core::read_text_file(sum, kMaxSumBytes) == core::to_hex(wire::hash_file(carry))) return;
  throw core::Error(carry.string() +
                    ": what the last round's compaction cut is damaged on the disk; restore the "
                    "file from a copy");
}

// Not an IoError: trying again reads the same.
void check_update(const AcceptedUpdate& update, const std::filesystem::path& payload) {
  if (std::filesystem::exists(payload) && wire::hash_file(payload) == update.payload) return;
  throw core::Error(payload.string() + ": the accepted update of " + update.client +
                    " is damaged on the disk");
}

}  // namespace

RoundAggregator::RoundAggregator(const core::Config& config, std::filesystem::path dir)
    : mode_(aggregation::find_rule(config.aggregation).mode),
      rule_(aggregation::make_rule(config.aggregation)),
      rounds_(static_cast<std::uint64_t>(config.federation.rounds)),
      dir_(std::move(dir)) {}

RoundAggregator::~RoundAggregator() = default;

AggregatedRound RoundAggregator::aggregate(const OpenRound& round,
                                           const wire::BlobStore& blobs) const {
  const std::uint64_t base = round.plan.base_version;
  aggregation::AggregationJob job{.updates = {},
                                  .carry_in = carry(base),
                                  .output = dir_ / "next.safetensors",
                                  .carry_out = carry(base + 1),
                                  .is_last = base + 1 == rounds_};
  if (!std::filesystem::exists(job.carry_in)) job.carry_in.clear();
  if (!job.carry_in.empty()) check_carry(job.carry_in);
  forget_carry(base + 1);
  for (const auto& [client, update] : round.accepted) {
    check_update(update, blobs.path(update.payload));
    job.updates.push_back({client, update.num_examples, blobs.path(update.payload), update.norms});
  }
  AggregatedRound result{
      .payload = job.output, .mode = mode_, .report = rule_->aggregate(job), .unsound = {}};
  result.unsound = what_is_not_finite(job.output);
  if (result.report.carries) {
    wire::File::open_for_writing(job.carry_out).sync();
    core::write_file_atomic(sum_of(job.carry_out),
                            core::as_bytes(core::to_hex(wire::hash_file(job.carry_out))));
  }
  for (const aggregation::UpdateFile& update : job.updates) {
    const tensors::FactorSetFile file(update.payload);
    if (tensors::moves_nothing(file)) result.zeros.push_back(update.client);
  }
  return result;
}

void RoundAggregator::forget_carry(std::uint64_t base_version) const {
  std::error_code ignored;  // the version is out: a file that stays harms nobody
  std::filesystem::remove(carry(base_version), ignored);
  std::filesystem::remove(sum_of(carry(base_version)), ignored);
}

std::filesystem::path RoundAggregator::carry(std::uint64_t version) const {
  return dir_ / ("carry-" + std::to_string(version) + ".safetensors");
}

}  // namespace drystone::coordinator
