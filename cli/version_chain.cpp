#include "cli/version_chain.h"

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>

#include "aggregation/gate_checks.h"
#include "core/mapped_file.h"
#include "crypto/hash.h"
#include "wire/durable_file.h"

namespace drystone::cli {

namespace fs = std::filesystem;

namespace {

constexpr core::Digest kNoContext{};

void check_signer(const std::string& client, const crypto::PublicKey& signer) {
  hold(signer != crypto::PublicKey{},
       client + "'s key is not known: it was accepted before keys were kept");
}

}  // namespace

std::string reason(const std::exception& error) {
  std::string text = error.what();
  text = text.substr(0, text.find('\n'));
  constexpr std::string_view kMark = "[json.exception.";
  const std::size_t begin = text.find(kMark);
  const std::size_t end = text.find("] ", begin);
  if (begin == std::string::npos || end == std::string::npos) return text;
  const bool is_parsing = std::string_view(text).substr(begin + kMark.size()).starts_with("parse");
  return text.replace(begin, end + 2 - begin, is_parsing ? "is not JSON: " : "");
}

std::optional<core::Digest> signed_config(const coordinator::VersionRecord& record) {
  const bool is_signed = crypto::verify(record.coordinator, "version", kNoContext,
                                        record.manifest.bytes, record.manifest.signature);
  const auto manifest = wire::decode_version(record.manifest.bytes);
  if (!is_signed || !manifest) return std::nullopt;
  return manifest->config;
}

VersionFacts VersionChain::check(const std::function<coordinator::VersionRecord()>& read,
                                 const VersionFiles& files) {
  VersionFacts facts;
  facts.check.version = next_++;
  try {
    const coordinator::VersionRecord record = read();
    auto manifest = wire::decode_version(record.manifest.bytes);
    hold(manifest.has_value(), "the version's manifest is unreadable");
    const core::Digest previous = std::exchange(head_, manifest->head);  // the chain goes on
    facts.manifest = *manifest;
    facts.check.updates = record.updates.size();
    check_manifest(record, *manifest, previous, files.factors);
    facts.files.push_back(files.factors);
    facts.claims = check_updates(record, *manifest);
    facts.evaluations = check_evaluations(record, *manifest);
    if (manifest->version > 0) recompute(facts, files);
    facts.check.recomputed = facts.aggregation.has_value();
    return facts;
  } catch (const Wrong& wrong) {
    facts.check.wrong = wrong.what;
  } catch (const std::exception& error) {  // a record that is missing, cut or not such a text
    facts.check.wrong = reason(error);
  }
  carry_known_ = false;  // what this version cut is unknown
  return facts;
}

void VersionChain::check_manifest(const coordinator::VersionRecord& record,
                                  const wire::VersionManifest& manifest,
                                  const core::Digest& previous, const fs::path& factors) {
  if (!coordinator_) coordinator_ = record.coordinator;
  hold(record.coordinator == *coordinator_, "signed by another coordinator than version 0");
  hold(crypto::verify(*coordinator_, "version", kNoContext, record.manifest.bytes,
                      record.manifest.signature),
       "the coordinator's signature does not verify");
  hold(manifest.version + 1 == next_, "is version " + std::to_string(manifest.version));
  hold(manifest.previous_head == previous,
       "does not follow the version before: the chain is broken");
  hold(manifest.head == crypto::chain_head(manifest.previous_head, manifest.round_root,
                                           manifest.payload, manifest.config,
                                           manifest.roster.digest),
       "the head is not the hash of its parts");
  if (!rules_.config) rules_.config = manifest.config;
  hold(manifest.config == *rules_.config, "has another configuration than " + rules_.config_source);
  hold(fs::exists(factors), factors.filename().string() + " is missing");
  hold(wire::hash_file(factors) == manifest.payload,
       factors.filename().string() + " is not what was published");
}

void VersionChain::check_plan(const wire::Signed& signed_plan,
                              const wire::VersionManifest& manifest) const {
  hold(crypto::verify(*coordinator_, "plan", kNoContext, signed_plan.bytes, signed_plan.signature),
       "the round's plan is not signed by the coordinator");
  const auto plan = wire::decode_plan(signed_plan.bytes);
  hold(plan.has_value() && plan->round == manifest.round &&
           plan->base_head == manifest.previous_head && plan->roster == manifest.roster,
       "the plan is of another round");
}

std::vector<wire::UpdateManifest> VersionChain::check_updates(
    const coordinator::VersionRecord& record, const wire::VersionManifest& manifest) const {
  std::vector<core::Bytes> leaves;
  std::vector<wire::UpdateManifest> claims;
  if (manifest.version > 0) check_plan(record.plan, manifest);
  const core::Digest transcript = wire::transcript(record.plan.bytes);
  for (const coordinator::RecordedUpdate& update : record.updates) {
    check_signer(update.client, update.signer);
    hold(crypto::verify(update.signer, "update", transcript, update.manifest.bytes,
                        update.manifest.signature),
         update.client + "'s signature does not verify");
    auto claim = wire::decode_update(update.manifest.bytes);
    hold(claim.has_value() && claim->client == update.client,
         update.client + "'s update is not its own");
    leaves.push_back(update.manifest.bytes);
    claims.push_back(std::move(*claim));
  }
  hold(std::ranges::adjacent_find(claims, std::ranges::greater_equal(),
                                  &wire::UpdateManifest::client) == claims.end(),
       "updates are out of order, or a client counts twice");
  hold(crypto::merkle_root(leaves) == manifest.round_root,
       "the updates do not hash to the round's root");
  return claims;
}

void VersionChain::recompute(VersionFacts& facts, const VersionFiles& files) {
  aggregation::AggregationJob job{
      .updates = {},
      .carry_in = carry_,
      .output = rules_.scratch / "factors.safetensors",
      .carry_out =
          rules_.scratch / ("carry-" + std::to_string(facts.manifest->version) + ".safetensors"),
      .is_last = facts.manifest->version == rules_.rounds};
  bool all_kept = true;
  for (const wire::UpdateManifest& claim : facts.claims) {
    const fs::path payload = files.update(claim);
    if (!fs::exists(payload)) {
      const fs::path name = payload.parent_path().filename() / payload.filename();
      hold(!rules_.keeps_updates,
           claim.client + "'s payload " + name.generic_string() +
               " is missing although output.keep_updates = true; restore it from a copy");
      ++facts.missing;
      all_kept = false;
      continue;
    }
    hold(wire::hash_file(payload) == claim.payload,
         claim.client + "'s payload is not what it signed");
    if (rules_.layout != nullptr) {
      const core::MappedFile file(payload);
      const auto fits = aggregation::check_payload(file.bytes(), *rules_.layout,
                                                   std::numeric_limits<std::int64_t>::max());
      hold(fits.has_value(), claim.client + "'s payload does not fit layout.json: " +
                                 (fits ? std::string() : fits.error().detail));
    }
    facts.files.push_back(payload);
    job.updates.push_back({claim.client, claim.num_examples, payload});
  }
  carry_known_ = carry_known_ && all_kept;
  if (!carry_known_ || rules_.rule == nullptr) return;
  aggregation::AggregationReport report = rules_.rule->aggregate(job);
  carry_ = report.carries ? job.carry_out : fs::path();
  hold(wire::hash_file(job.output) == facts.manifest->payload,
       "aggregating the clients' updates again gives other bytes");
  facts.aggregation = std::move(report);
}

std::vector<wire::EvaluationManifest> check_evaluations(const coordinator::VersionRecord& record,
                                                        const wire::VersionManifest& manifest) {
  std::vector<wire::EvaluationManifest> evaluations;
  for (const coordinator::RecordedEvaluation& evaluation : record.evaluations) {
    check_signer(evaluation.client, evaluation.signer);
    hold(crypto::verify(evaluation.signer, "evaluation", manifest.head, evaluation.manifest.bytes,
                        evaluation.manifest.signature),
         evaluation.client + "'s evaluation is not signed by it for this version");
    auto claim = wire::decode_evaluation(evaluation.manifest.bytes);
    hold(claim.has_value() && claim->client == evaluation.client &&
             claim->version == manifest.version,
         evaluation.client + "'s evaluation is not its own");
    evaluations.push_back(std::move(*claim));
  }
  return evaluations;
}

}  // namespace drystone::cli
