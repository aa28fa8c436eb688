#include "cli/verify_state.h"

#include "coordinator/store.h"
#include "core/error.h"
#include "core/files.h"
#include "wire/durable_file.h"

namespace drystone::cli {

namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kMaxSumBytes = 1024;

class StateCheck {
 public:
  StateCheck(const fs::path& dir, bool keeps_updates) : dir_(dir), keeps_updates_(keeps_updates) {}
  StateFacts run();

 private:
  fs::path blob(const core::Digest& payload) const {
    return dir_ / "blobs" / core::to_hex(payload);
  }
  void check_versions();
  void check_open_round();
  void check_blobs();
  void check_carries();

  fs::path dir_;
  bool keeps_updates_;
  std::optional<coordinator::Store> store_;
  StateFacts facts_;
};

StateFacts StateCheck::run() {
  facts_.check = {.part = "state", .how = "rows as signed, payloads as named", .wrong = {}};
  facts_.files.insert(dir_ / "state.sqlite");
  try {
    store_.emplace(dir_);
    const auto inconsistency = store_->inconsistency();
    hold(!inconsistency.has_value(), "state.sqlite: " + inconsistency.value_or(""));
    check_versions();
    check_open_round();
    check_blobs();
    check_carries();
    for (const auto& round : store_->rounds()) {
      facts_.reports.push_back(coordinator::to_json(round));
    }
  } catch (const Wrong& wrong) {
    facts_.check.wrong = wrong.what;
  } catch (const std::exception& error) {
    facts_.check.wrong = reason(error);
  }
  return std::move(facts_);
}

void StateCheck::check_versions() {
  VersionChain chain({.config = core::digest_from_hex(store_->federation()),
                      .config_source = "the federation in state.sqlite",
                      .keeps_updates = keeps_updates_,
                      .scratch = {}});
  const std::uint64_t newest = store_->load().version;
  for (std::uint64_t version = 0; version <= newest; ++version) {
    core::Digest payload{};
    for (const wire::Signed& signed_manifest : store_->versions(version, 1)) {
      if (const auto manifest = wire::decode_version(signed_manifest.bytes)) {
        payload = manifest->payload;
      }
    }
    const VersionFacts found = chain.check(
        [&] { return coordinator::make_record(*store_, version); },
        {.factors = blob(payload),
         .update = [this](const wire::UpdateManifest& claim) { return blob(claim.payload); }});
    facts_.versions.push_back(found.check);
    facts_.missing_updates += found.missing;
    facts_.files.insert(found.files.begin(), found.files.end());
    hold(!found.check.wrong,
         "version " + std::to_string(version) + ": " + found.check.wrong.value_or(""));
  }
  facts_.head = chain.head();
}

void StateCheck::check_open_round() {
  const auto plan = store_->open_plan();
  if (!plan) return;
  const coordinator::MachineState state = store_->load();
  hold(crypto::verify(store_->coordinator(), "plan", {}, plan->bytes, plan->signature),
       "the open round's plan is not signed by the coordinator");
  hold(state.open->plan.base_head == state.head, "the open round begins at another head");
  for (const coordinator::StoredUpdate& stored : store_->updates(state.open->plan.round)) {
    const std::string& client = stored.update.client;
    hold(crypto::verify(stored.signer, "update", wire::transcript(plan->bytes),
                        stored.update.manifest, stored.signature),
         client + "'s accepted update is not signed by it for the open round");
    hold(fs::exists(blob(stored.update.payload)), client + "'s accepted payload is missing");
  }
}

void StateCheck::check_blobs() {
  const fs::path blobs = dir_ / "blobs";
  if (!fs::is_directory(blobs)) return;
  for (const auto& entry : fs::directory_iterator(blobs)) {
    if (!entry.is_regular_file() || facts_.files.contains(entry.path())) continue;
    hold(core::to_hex(wire::hash_file(entry.path())) == entry.path().filename().string(),
         "blobs/" + entry.path().filename().string() + ": its content is not what its name says");
    facts_.files.insert(entry.path());
  }
}

void StateCheck::check_carries() {
  for (const auto& entry : fs::directory_iterator(dir_)) {
    const fs::path sum = entry.path().string() + ".sha256";
    if (!fs::exists(sum)) continue;
    hold(core::read_text_file(sum, kMaxSumBytes) == core::to_hex(wire::hash_file(entry.path())),
         entry.path().filename().string() + ": what compaction cut is damaged");
    facts_.files.insert({entry.path(), sum});
  }
}

}  // namespace

StateFacts verify_state(const fs::path& state, bool keeps_updates) {
  if (!fs::is_regular_file(state / "state.sqlite")) {
    throw core::ConfigError(state.string() + ": no coordinator's state (state.sqlite) there");
  }
  return StateCheck(state, keeps_updates).run();
}

}  // namespace drystone::cli
