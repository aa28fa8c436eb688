#include "cli/verify.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "aggregation/rule.h"
#include "coordinator/version_record.h"
#include "core/config.h"
#include "core/error.h"
#include "core/files.h"
#include "crypto/hash.h"
#include "tensors/threads.h"
#include "wire/durable_file.h"

namespace drystone::cli {

namespace fs = std::filesystem;

namespace {

constexpr core::Digest kNoContext{};

// Thrown inside one version's check; becomes VersionCheck::wrong.
struct Wrong {
  std::string what;
};

void hold(bool condition, const std::string& otherwise) {
  if (!condition) throw Wrong{otherwise};
}

class Verifier {
 public:
  explicit Verifier(const fs::path& run)
      : config_(core::load_config(run / "config.toml")),
        rule_(aggregation::make_rule(config_.aggregation)),
        scratch_(run / "verify.tmp") {
    fs::create_directories(scratch_);
  }
  ~Verifier() {
    std::error_code ignored;
    fs::remove_all(scratch_, ignored);
  }
  Verifier(const Verifier&) = delete;
  Verifier& operator=(const Verifier&) = delete;

  VersionCheck check(const fs::path& dir);
  const core::Digest& head() const { return head_; }

 private:
  void check_manifest(const coordinator::VersionRecord& record,
                      const wire::VersionManifest& manifest, const core::Digest& previous,
                      const fs::path& dir);
  void check_plan(const wire::Signed& signed_plan, const wire::VersionManifest& manifest);
  std::vector<wire::UpdateManifest> check_updates(const coordinator::VersionRecord& record,
                                                  const wire::VersionManifest& manifest);
  bool recompute(const std::vector<wire::UpdateManifest>& claims,
                 const wire::VersionManifest& manifest, const fs::path& dir);

  core::Config config_;
  std::unique_ptr<aggregation::AggregationRule> rule_;
  fs::path scratch_;
  std::uint64_t next_ = 0;  ///< number of versions looked at
  core::Digest head_{};
  std::optional<crypto::PublicKey> coordinator_;
  fs::path carry_;  ///< what the version before cut
  bool carry_known_ = true;
};

VersionCheck Verifier::check(const fs::path& dir) {
  VersionCheck result{.version = next_++};
  try {
    const auto record = coordinator::record_from_json(
        core::read_text_file(dir / "version.json", coordinator::kMaxRecordBytes));
    const auto manifest = wire::decode_version(record.manifest.bytes);
    hold(manifest.has_value(), "the version's manifest is unreadable");
    const core::Digest previous = std::exchange(head_, manifest->head);  // the chain goes on
    check_manifest(record, *manifest, previous, dir);
    result.updates = record.updates.size();
    const auto claims = check_updates(record, *manifest);
    if (manifest->version > 0) result.recomputed = recompute(claims, *manifest, dir);
    return result;
  } catch (const Wrong& wrong) {
    result.wrong = wrong.what;
  } catch (const core::Error& error) {  // a record that is missing, cut short or not such a text
    result.wrong = error.what();
  }
  carry_known_ = false;  // what this version cut is unknown
  return result;
}

void Verifier::check_manifest(const coordinator::VersionRecord& record,
                              const wire::VersionManifest& manifest, const core::Digest& previous,
                              const fs::path& dir) {
  if (!coordinator_) coordinator_ = record.coordinator;
  hold(record.coordinator == *coordinator_, "signed by another coordinator than version 0");
  hold(crypto::verify(*coordinator_, "version", kNoContext, record.manifest.bytes,
                      record.manifest.signature),
       "the coordinator's signature does not verify");
  hold(manifest.version + 1 == next_, "is version " + std::to_string(manifest.version));
  hold(manifest.previous_head == previous,
       "does not follow the version before: the chain is broken");
  hold(manifest.head == crypto::chain_head(manifest.previous_head, manifest.round_root,
                                           manifest.payload, manifest.config),
       "the head is not the hash of its parts");
  const std::string semantic = core::semantic_text(config_);
  hold(manifest.config == crypto::sha256(core::as_bytes(semantic)),
       "config.toml is not the configuration that was run");
  hold(wire::hash_file(dir / "factors.safetensors") == manifest.payload,
       "factors.safetensors is not what was published");
}

void Verifier::check_plan(const wire::Signed& signed_plan, const wire::VersionManifest& manifest) {
  hold(crypto::verify(*coordinator_, "plan", kNoContext, signed_plan.bytes, signed_plan.signature),
       "the round's plan is not signed by the coordinator");
  const auto plan = wire::decode_plan(signed_plan.bytes);
  hold(plan.has_value() && plan->round == manifest.round &&
           plan->base_head == manifest.previous_head,
       "the plan is of another round");
}

std::vector<wire::UpdateManifest> Verifier::check_updates(const coordinator::VersionRecord& record,
                                                          const wire::VersionManifest& manifest) {
  std::vector<core::Bytes> leaves;
  std::vector<wire::UpdateManifest> claims;
  if (manifest.version > 0) check_plan(record.plan, manifest);
  const core::Digest transcript = wire::transcript(record.plan.bytes);
  for (const coordinator::RecordedUpdate& update : record.updates) {
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

bool Verifier::recompute(const std::vector<wire::UpdateManifest>& claims,
                         const wire::VersionManifest& manifest, const fs::path& dir) {
  aggregation::AggregationJob job{
      .updates = {},
      .carry_in = carry_,
      .output = scratch_ / "factors.safetensors",
      .carry_out = scratch_ / ("carry-" + std::to_string(manifest.version) + ".safetensors"),
      .is_last = manifest.version == static_cast<std::uint64_t>(config_.federation.rounds)};
  for (const wire::UpdateManifest& claim : claims) {
    const fs::path payload = dir / "updates" / (claim.client + ".safetensors");
    if (!fs::exists(payload)) carry_known_ = false;
    if (!carry_known_) return false;
    hold(wire::hash_file(payload) == claim.payload,
         claim.client + "'s payload is not what it signed");
    job.updates.push_back({claim.client, claim.num_examples, payload});
  }
  const auto report = rule_->aggregate(job);
  carry_ = report.carries ? job.carry_out : fs::path();
  hold(wire::hash_file(job.output) == manifest.payload,
       "aggregating the clients' updates again gives other bytes");
  return true;
}

}  // namespace

bool Verification::is_sound() const {
  return !versions.empty() &&
         std::ranges::none_of(versions, [](const auto& v) { return v.wrong.has_value(); });
}

Verification verify_run(const fs::path& run) {
  if (!fs::is_directory(run / "versions")) {
    throw core::ConfigError(run.string() + ": has no versions/; name a run folder");
  }
  std::vector<fs::path> dirs;
  for (const auto& entry : fs::directory_iterator(run / "versions")) dirs.push_back(entry.path());
  std::ranges::sort(dirs);
  tensors::use_threads(1);  // as the coordinator aggregates: the number is part of the bits
  Verifier verifier(run);
  Verification verification;
  for (const fs::path& dir : dirs) verification.versions.push_back(verifier.check(dir));
  verification.head = verifier.head();
  return verification;
}

}  // namespace drystone::cli
