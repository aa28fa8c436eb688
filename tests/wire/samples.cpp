#include "tests/wire/samples.h"

#include <algorithm>

namespace drystone::test {

using core::SplitMix64;

core::Bytes sample_bytes(SplitMix64& random, std::size_t size) {
  core::Bytes bytes(size);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
  return bytes;
}

core::Digest sample_digest(SplitMix64& random) {
  core::Digest digest{};
  std::ranges::copy(sample_bytes(random, digest.size()), digest.begin());
  return digest;
}

std::string sample_name(SplitMix64& random) {
  std::string name = "client-";
  for (std::uint64_t i = random.below(20); i > 0; --i) {
    name.push_back(static_cast<char>('a' + random.below(26)));
  }
  return name;
}

wire::RosterMark sample_roster_mark(SplitMix64& random) {
  if (random.below(2) == 0) return {};
  return {.change = 1 + random.below(100), .digest = sample_digest(random)};
}

wire::RoundPlan sample_plan(SplitMix64& random) {
  wire::RoundPlan plan{.federation = core::to_hex(sample_digest(random)),
                       .round = random.below(1000),
                       .attempt = random.below(3),
                       .base_version = random(),
                       .base_head = sample_digest(random),
                       .seed = random(),
                       .cohort = {},
                       .start = random.below(2) == 0 ? "fresh" : "",
                       .deadline_ms = random.below(1'000'000)};
  for (std::uint64_t i = random.below(12); i > 0; --i) plan.cohort.push_back(sample_name(random));
  std::ranges::sort(plan.cohort);
  plan.cohort.erase(std::ranges::unique(plan.cohort).begin(), plan.cohort.end());
  const core::Digest common = sample_digest(random);
  for (std::size_t i = 0; random.below(4) != 0 && i < plan.cohort.size(); ++i) {
    plan.settings.push_back(random.below(2) == 0 ? common : sample_digest(random));
    if (random.below(4) == 0) plan.settings.back() = {};
  }
  if (plan.settings.size() != plan.cohort.size()) plan.settings.clear();
  plan.roster = sample_roster_mark(random);
  return plan;
}

wire::UpdateManifest sample_update(SplitMix64& random) {
  return {.round = random(),
          .attempt = random.below(4),
          .client = sample_name(random),
          .base_version = random.below(100),
          .payload = sample_digest(random),
          .payload_bytes = 1 + random.below(1'000'000'000),
          .num_examples = random.below(100'000),
          .num_steps = random.below(1000),
          .num_tokens = random.below(1'000'000),
          .train_loss = random.normal(),
          .method = "lora",
          .num_passes = random.below(5000)};
}

wire::VersionManifest sample_version(SplitMix64& random) {
  return {.version = random.below(100),
          .round = random.below(100),
          .mode = random.below(2) == 0 ? core::PublishMode::Add : core::PublishMode::Replace,
          .payload = sample_digest(random),
          .payload_bytes = 1 + random.below(1'000'000'000),
          .previous_head = sample_digest(random),
          .round_root = sample_digest(random),
          .config = sample_digest(random),
          .head = sample_digest(random),
          .roster = sample_roster_mark(random)};
}

wire::RosterChange sample_roster_change(SplitMix64& random) {
  const auto key = [&] {
    crypto::PublicKey bytes{};
    std::ranges::copy(sample_bytes(random, bytes.size()), bytes.begin());
    return bytes;
  };
  wire::RosterChange change{.federation = core::to_hex(sample_digest(random)),
                            .number = 1 + random.below(100),
                            .previous = sample_digest(random),
                            .roster = sample_digest(random),
                            .action = static_cast<wire::RosterAction>(random.below(4))};
  if (change.action == wire::RosterAction::Edit) return change;
  change.entry.identity.name = sample_name(random);
  if (change.has_new_keys()) {
    change.entry.identity.curve = key();
    change.entry.identity.signing = key();
    change.entry.role = random.below(2) == 0 ? crypto::Role::Train : crypto::Role::Evaluate;
    change.entry.max_rank = static_cast<std::int64_t>(random.below(100));
    change.entry.max_examples = static_cast<std::int64_t>(random.below(100'000));
    change.entry.has_own_settings = random.below(2) == 0;
  }
  if (change.has_old_keys()) {
    change.old_curve = key();
    change.old_signing = key();
  }
  return change;
}

wire::EvaluationManifest sample_evaluation(SplitMix64& random) {
  wire::EvaluationManifest manifest{.version = random.below(100),
                                    .client = sample_name(random),
                                    .num_examples = random.below(10'000),
                                    .metrics = {}};
  for (std::uint64_t i = random.below(6); i > 0; --i) {
    manifest.metrics[sample_name(random)] = random.normal();
  }
  return manifest;
}

namespace {

wire::Signed sample_signed(SplitMix64& random, core::Bytes bytes) {
  wire::Signed message{.bytes = std::move(bytes), .signature = {}};
  std::ranges::copy(sample_bytes(random, 64), message.signature.begin());
  return message;
}

}  // namespace

std::vector<wire::Message> sample_messages(std::uint64_t seed) {
  SplitMix64 random(seed);
  wire::Catalog catalog;
  for (std::uint64_t i = random.below(5); i > 0; --i) {
    catalog.versions.push_back(sample_signed(random, encode(sample_version(random))));
  }
  const auto refusal = static_cast<core::Refusal>(random.below(23));
  return {wire::Hello{.software = "drystone 0.1.0",
                      .base_sha256 = core::to_hex(sample_digest(random)),
                      .device = "cuda:0",
                      .num_examples = random(),
                      .base = "nf4",
                      .instance = random()},
          wire::CatalogRequest{random()},
          wire::Offer{sample_signed(random, encode(sample_update(random))), random.uniform()},
          wire::Report{sample_signed(random, encode(sample_evaluation(random))), random.uniform()},
          wire::Progress{.round = random(),
                         .step = random(),
                         .num_steps = random(),
                         .loss = random.normal(),
                         .num_tokens = random(),
                         .peak_bytes = random()},
          wire::Decline{.round = random(),
                        .attempt = random(),
                        .refusal = refusal,
                        .detail = "training.alpha differs"},
          wire::Welcome{
              .federation = sample_name(random), .version = random(), .rounds = random.below(100)},
          wire::Task{sample_signed(random, encode(sample_plan(random))), sample_name(random)},
          wire::EvaluateTask{random()},
          std::move(catalog),
          wire::Verdict{.round = random(),
                        .accepted = random.below(2) == 0,
                        .refusal = refusal,
                        .detail = "rank 9 of 8"},
          wire::Done{random()},
          wire::Refused{.refusal = refusal, .detail = sample_name(random)},
          wire::Want{.blob = sample_digest(random), .offset = random(), .length = random()},
          wire::Chunk{.blob = sample_digest(random),
                      .offset = random(),
                      .data = sample_bytes(random, 1 + random.below(500))}};
}

std::vector<core::Bytes> sample_encodings(std::uint64_t seed) {
  SplitMix64 random(seed);
  return {encode(sample_plan(random)), encode(sample_update(random)),
          encode(sample_version(random)), encode(sample_evaluation(random)),
          encode(sample_roster_change(random))};
}

}  // namespace drystone::test
