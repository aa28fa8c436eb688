// What travels signed: RoundPlan, UpdateManifest, VersionManifest, EvaluationManifest.

#include <algorithm>
#include <map>

#include "crypto/hash.h"
#include "wire/codec.h"
#include "wire/limits.h"
#include "wire/messages.h"
#include "wire/protocol.capnp.h"

namespace drystone::wire {

namespace {

/// Number and digest are there together or not at all.
RosterMark read_roster(std::uint64_t change, capnp::Data::Reader digest) {
  if (change == 0 && digest.size() == 0) return {};
  RosterMark mark{.change = change, .digest = read_digest(digest, "roster")};
  if (change == 0 || mark.digest == core::Digest{}) malformed("roster: no change");
  return mark;
}

template <typename Builder>
void write_roster(Builder builder, const RosterMark& mark) {
  if (mark.change == 0) return;
  builder.setRosterChange(mark.change);
  builder.setRoster(as_data(mark.digest));
}

/// Of each of the cohort; the canonical form lists every digest once, in order of appearance.
std::vector<core::Digest> read_settings(schema::RoundPlan::Reader reader, std::size_t cohort) {
  const auto listed = reader.getSettings();
  const auto indices = reader.getSettingsOf();
  check_count(listed.size(), cohort, "settings");
  if (indices.size() != 0 && indices.size() != cohort) malformed("settings: not the cohort's");
  std::vector<core::Digest> digests;  // each read once: what is read counts against a limit
  digests.reserve(listed.size());
  for (const auto digest : listed) digests.push_back(read_digest(digest, "settings"));
  std::vector<core::Digest> settings;
  settings.reserve(indices.size());
  for (const unsigned index : indices) {
    if (index > digests.size()) malformed("settings: an index beyond the list");
    settings.push_back(index == 0 ? core::Digest{} : digests[index - 1]);
  }
  return settings;
}

void write_settings(schema::RoundPlan::Builder builder, const std::vector<core::Digest>& settings) {
  if (settings.empty()) return;
  std::vector<core::Digest> digests;
  std::map<core::Digest, std::uint16_t> positions = {{core::Digest{}, 0}};
  auto indices = builder.initSettingsOf(as_list_size(settings.size()));
  for (unsigned i = 0; i < indices.size(); ++i) {
    const auto next = static_cast<std::uint16_t>(digests.size() + 1);
    const auto [position, is_new] = positions.emplace(settings[i], next);
    if (is_new) digests.push_back(settings[i]);
    indices.set(i, position->second);
  }
  auto list = builder.initSettings(as_list_size(digests.size()));
  for (unsigned i = 0; i < list.size(); ++i) list.set(i, as_data(digests[i]));
}

RoundPlan read_plan(schema::RoundPlan::Reader reader) {
  RoundPlan plan;
  plan.federation = read_text(reader.getFederation(), kMaxNameBytes, "federation");
  plan.round = reader.getRound();
  plan.attempt = reader.getAttempt();
  plan.base_version = reader.getBaseVersion();
  plan.base_head = read_digest(reader.getBaseHead(), "base_head");
  plan.seed = reader.getSeed();
  const auto cohort = reader.getCohort();
  check_count(cohort.size(), kMaxCohort, "cohort");
  plan.cohort.reserve(cohort.size());
  for (const auto client : cohort) {
    std::string name = read_text(client, kMaxNameBytes, "cohort");
    if (!plan.cohort.empty() && name <= plan.cohort.back()) malformed("cohort: not in order");
    plan.cohort.push_back(std::move(name));
  }
  plan.start = read_text(reader.getStart(), kMaxNameBytes, "start");
  plan.deadline_ms = reader.getDeadlineMs();
  plan.settings = read_settings(reader, plan.cohort.size());
  plan.roster = read_roster(reader.getRosterChange(), reader.getRoster());
  return plan;
}

UpdateManifest read_update(schema::UpdateManifest::Reader reader) {
  UpdateManifest manifest;
  manifest.round = reader.getRound();
  manifest.attempt = reader.getAttempt();
  manifest.client = read_text(reader.getClient(), kMaxNameBytes, "client");
  manifest.base_version = reader.getBaseVersion();
  manifest.payload = read_digest(reader.getPayload(), "payload");
  manifest.payload_bytes = reader.getPayloadBytes();
  manifest.num_examples = reader.getNumExamples();
  manifest.num_steps = reader.getNumSteps();
  manifest.num_tokens = reader.getNumTokens();
  manifest.train_loss = read_finite(reader.getTrainLoss(), "train_loss");
  manifest.method = read_text(reader.getMethod(), kMaxNameBytes, "method");
  manifest.num_passes = reader.getNumPasses();
  if (manifest.payload_bytes == 0) malformed("payload_bytes: 0");
  return manifest;
}

core::PublishMode read_mode(schema::PublishMode mode) {
  switch (mode) {
    case schema::PublishMode::ADD: return core::PublishMode::Add;
    case schema::PublishMode::REPLACE: return core::PublishMode::Replace;
  }
  malformed("mode: " + std::to_string(static_cast<unsigned>(mode)) + " is unknown");
}

VersionManifest read_version(schema::VersionManifest::Reader reader) {
  VersionManifest manifest;
  manifest.version = reader.getVersion();
  manifest.round = reader.getRound();
  manifest.mode = read_mode(reader.getMode());
  manifest.payload = read_digest(reader.getPayload(), "payload");
  manifest.payload_bytes = reader.getPayloadBytes();
  manifest.previous_head = read_digest(reader.getPreviousHead(), "previous_head");
  manifest.round_root = read_digest(reader.getRoundRoot(), "round_root");
  manifest.config = read_digest(reader.getConfig(), "config");
  manifest.head = read_digest(reader.getHead(), "head");
  manifest.roster = read_roster(reader.getRosterChange(), reader.getRoster());
  if (manifest.payload_bytes == 0) malformed("payload_bytes: 0");
  return manifest;
}

EvaluationManifest read_evaluation(schema::EvaluationManifest::Reader reader) {
  EvaluationManifest manifest;
  manifest.version = reader.getVersion();
  manifest.client = read_text(reader.getClient(), kMaxNameBytes, "client");
  manifest.num_examples = reader.getNumExamples();
  const auto metrics = reader.getMetrics();
  check_count(metrics.size(), kMaxMetrics, "metrics");
  for (const auto metric : metrics) {
    std::string name = read_text(metric.getName(), kMaxNameBytes, "metric");
    const double value = metric.getValue();  // NaN as well: a broken version is to be told of
    if (!manifest.metrics.emplace(std::move(name), value).second) malformed("metrics: twice");
  }
  return manifest;
}

}  // namespace

core::Digest transcript(core::ByteView plan_bytes) { return crypto::sha256(plan_bytes); }

core::Bytes encode(const RoundPlan& plan) {
  capnp::MallocMessageBuilder message;
  auto builder = message.initRoot<schema::RoundPlan>();
  builder.setFederation(plan.federation);
  builder.setRound(plan.round);
  builder.setAttempt(plan.attempt);
  builder.setBaseVersion(plan.base_version);
  builder.setBaseHead(as_data(plan.base_head));
  builder.setSeed(plan.seed);
  auto cohort = builder.initCohort(as_list_size(plan.cohort.size()));
  for (unsigned i = 0; i < cohort.size(); ++i) cohort.set(i, plan.cohort[i]);
  builder.setStart(plan.start);
  builder.setDeadlineMs(plan.deadline_ms);
  write_settings(builder, plan.settings);
  write_roster(builder, plan.roster);
  return canonical_bytes(builder.asReader(), kMaxSignedBytes, "RoundPlan");
}

core::Bytes encode(const UpdateManifest& manifest) {
  capnp::MallocMessageBuilder message;
  auto builder = message.initRoot<schema::UpdateManifest>();
  builder.setRound(manifest.round);
  builder.setAttempt(manifest.attempt);
  builder.setClient(manifest.client);
  builder.setBaseVersion(manifest.base_version);
  builder.setPayload(as_data(manifest.payload));
  builder.setPayloadBytes(manifest.payload_bytes);
  builder.setNumExamples(manifest.num_examples);
  builder.setNumSteps(manifest.num_steps);
  builder.setNumTokens(manifest.num_tokens);
  builder.setTrainLoss(manifest.train_loss);
  builder.setMethod(manifest.method);
  builder.setNumPasses(manifest.num_passes);
  return canonical_bytes(builder.asReader(), kMaxSignedBytes, "UpdateManifest");
}

core::Bytes encode(const VersionManifest& manifest) {
  capnp::MallocMessageBuilder message;
  auto builder = message.initRoot<schema::VersionManifest>();
  builder.setVersion(manifest.version);
  builder.setRound(manifest.round);
  builder.setMode(manifest.mode == core::PublishMode::Add ? schema::PublishMode::ADD
                                                          : schema::PublishMode::REPLACE);
  builder.setPayload(as_data(manifest.payload));
  builder.setPayloadBytes(manifest.payload_bytes);
  builder.setPreviousHead(as_data(manifest.previous_head));
  builder.setRoundRoot(as_data(manifest.round_root));
  builder.setConfig(as_data(manifest.config));
  builder.setHead(as_data(manifest.head));
  write_roster(builder, manifest.roster);
  return canonical_bytes(builder.asReader(), kMaxSignedBytes, "VersionManifest");
}

core::Bytes encode(const EvaluationManifest& manifest) {
  capnp::MallocMessageBuilder message;
  auto builder = message.initRoot<schema::EvaluationManifest>();
  builder.setVersion(manifest.version);
  builder.setClient(manifest.client);
  builder.setNumExamples(manifest.num_examples);
  auto metrics = builder.initMetrics(as_list_size(manifest.metrics.size()));
  unsigned i = 0;
  for (const auto& [name, value] : manifest.metrics) {
    metrics[i].setName(name);
    metrics[i].setValue(value);
    ++i;
  }
  return canonical_bytes(builder.asReader(), kMaxSignedBytes, "EvaluationManifest");
}

core::Expected<RoundPlan> decode_plan(core::ByteView bytes) {
  return decode_signed<schema::RoundPlan>(bytes, kMaxSignedBytes, read_plan);
}

core::Expected<UpdateManifest> decode_update(core::ByteView bytes) {
  return decode_signed<schema::UpdateManifest>(bytes, kMaxSignedBytes, read_update);
}

core::Expected<VersionManifest> decode_version(core::ByteView bytes) {
  return decode_signed<schema::VersionManifest>(bytes, kMaxSignedBytes, read_version);
}

core::Expected<EvaluationManifest> decode_evaluation(core::ByteView bytes) {
  return decode_signed<schema::EvaluationManifest>(bytes, kMaxSignedBytes, read_evaluation);
}

}  // namespace drystone::wire
