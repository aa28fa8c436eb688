#include "tests/chaos/serial_model.h"

#include <algorithm>
#include <cmath>

#include "coordinator/aggregate_round.h"
#include "coordinator/federation_id.h"
#include "core/files.h"
#include "crypto/hash.h"
#include "tensors/factor_set_io.h"
#include "tests/chaos/disk.h"

namespace drystone::chaos {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void violate(std::string what) { throw Violation{std::move(what)}; }

std::string text(std::uint64_t number) { return std::to_string(number); }

double mark_of(const at::Tensor& head) { return head.const_data_ptr<float>()[4]; }

/// B·(A·x) in double.
std::vector<double> times(const tensors::Factors& factors, const std::vector<double>& x) {
  const auto* a = factors.a.const_data_ptr<float>();
  const auto* b = factors.b.const_data_ptr<float>();
  const auto rank = static_cast<std::size_t>(factors.a.size(0));
  const auto in = static_cast<std::size_t>(factors.a.size(1));
  const auto out = static_cast<std::size_t>(factors.b.size(0));
  std::vector<double> inner(rank);
  for (std::size_t r = 0; r < rank; ++r) {
    for (std::size_t i = 0; i < in; ++i) inner[r] += a[r * in + i] * x[i];
  }
  std::vector<double> result(out);
  for (std::size_t o = 0; o < out; ++o) {
    for (std::size_t r = 0; r < rank; ++r) result[o] += b[o * rank + r] * inner[r];
  }
  return result;
}

}  // namespace

SerialModel::SerialModel(const Schedule& schedule, const Federation& federation)
    : schedule_(schedule), federation_(federation) {
  history_ = schedule.compaction + (schedule.has_large_payloads ? " large" : "") + " of " +
             text(static_cast<std::uint64_t>(schedule.rounds));
}

int SerialModel::number_of(const std::string& client) const {
  const auto found = std::ranges::find(federation_.names, client);
  if (found == federation_.names.end()) violate("an unknown client: " + client);
  return 1 + static_cast<int>(found - federation_.names.begin());
}

/// federation.quorum of those whose updates make a round.
std::uint64_t SerialModel::quorum(std::uint64_t asked) const {
  const std::uint64_t made_of =
      schedule_.cohort == 0 ? asked : std::min(asked, static_cast<std::uint64_t>(schedule_.cohort));
  if (schedule_.quorum < 0) return (made_of + 1) / 2;
  return schedule_.quorum == 0 ? made_of : static_cast<std::uint64_t>(schedule_.quorum);
}

void SerialModel::planned(const wire::RoundPlan& plan) {
  if (open_) violate("round " + text(plan.round) + " is planned while one is open");
  if (versions_.empty() || plan.round != versions_.size() ||
      plan.base_version + 1 != versions_.size() || plan.base_head != versions_.back().head) {
    violate("round " + text(plan.round) + " is not planned from the newest version");
  }
  open_ = {plan.round, plan.attempt, {}};
}

void SerialModel::abandoned(std::uint64_t round) {
  if (!open_ || open_->round != round) violate("a round is abandoned that was not open");
  open_.reset();
}

void SerialModel::told_accepted(const std::string& client, std::uint64_t round) {
  if (!open_ || open_->round != round) violate(client + " is told of a round that is not open");
  if (!open_->told.insert(client).second) violate(client + " is told twice that it was accepted");
}

void SerialModel::look(coordinator::Store& store) {
  for (const wire::Signed& entry : store.versions(versions_.size(), 100)) {
    check(store, wire::decode_version(entry.bytes).value());
  }
}

void SerialModel::check_initial(const wire::VersionManifest& manifest) const {
  if (manifest.version != 0 || manifest.round != 0) violate("the first version is not version 0");
  const core::Bytes bytes = tensors::to_bytes(initial_version(schedule_.has_large_payloads));
  if (manifest.payload != crypto::sha256(bytes)) violate("version 0 is not what was given");
}

void SerialModel::check(coordinator::Store& store, const wire::VersionManifest& manifest) {
  const std::string name = "version " + text(manifest.version) + ": ";
  if (manifest.version != versions_.size()) violate(name + "out of order");
  const core::Digest before = versions_.empty() ? core::Digest{} : versions_.back().head;
  if (manifest.previous_head != before) violate(name + "does not follow the head before");
  const core::Digest config = core::digest_from_hex(coordinator::federation_id(federation_.config));
  if (manifest.head != crypto::chain_head(before, manifest.round_root, manifest.payload, config)) {
    violate(name + "its head is not of what it says");
  }
  Version version{.head = manifest.head, .payload = manifest.payload, .accepted = {}};
  if (manifest.version == 0) {
    check_initial(manifest);
  } else {
    version.accepted = check_round(store, manifest, before);
  }
  const fs::path payload = store.blobs().path(manifest.payload);
  version.mark = mark_of(tensors::read_factor_set(payload).dense.begin()->second);
  if (!versions_.empty()) version.mark += versions_.back().mark;
  open_.reset();
  versions_.push_back(std::move(version));
}

std::set<std::string> SerialModel::check_round(coordinator::Store& store,
                                               const wire::VersionManifest& manifest,
                                               const core::Digest& before) {
  const std::string name = "version " + text(manifest.version) + ": ";
  const auto updates = store.updates(manifest.round);
  const auto plan = wire::decode_plan(store.plan(manifest.round).bytes).value();
  if (manifest.round != manifest.version || plan.base_head != before) {
    violate(name + "of a plan for another base");
  }
  std::vector<core::Bytes> leaves;
  std::set<std::string> accepted;
  history_ += " /";
  for (const coordinator::StoredUpdate& stored : updates) {
    check_update(stored, plan, name + stored.update.client + "'s update ");
    leaves.push_back(stored.update.manifest);
    accepted.insert(stored.update.client);
    history_ += " " + text(static_cast<std::uint64_t>(number_of(stored.update.client)));
  }
  if (accepted.size() < quorum(plan.cohort.size())) {
    violate(name + text(accepted.size()) + " updates, and the quorum is " +
            text(quorum(plan.cohort.size())));
  }
  if (manifest.round_root != crypto::merkle_root(leaves)) {
    violate(name + "its root is not of the accepted updates");
  }
  if (open_ && open_->round == manifest.round) {
    for (const std::string& client : open_->told) {
      if (!accepted.contains(client)) {
        violate(name + client + " was told that its update counts, and it does not");
      }
    }
  }
  if (manifest.payload != expected_payload(updates)) {
    violate(name +
            "its payload is not the one that an undisturbed coordinator makes of these updates");
  }
  return accepted;
}

void SerialModel::check_update(const coordinator::StoredUpdate& stored, const wire::RoundPlan& plan,
                               const std::string& who) const {
  const auto update = wire::decode_update(stored.update.manifest).value();
  const auto& made =
      made_result(schedule_.has_large_payloads, plan.round, number_of(stored.update.client));
  const bool is_its_own = update.client == stored.update.client && update.round == plan.round &&
                          update.payload == stored.update.payload;
  if (!is_its_own || update.base_version + 1 != plan.round) violate(who + "is of another round");
  if (update.attempt != plan.attempt) violate(who + "is of another attempt");
  if (update.payload != crypto::sha256(tensors::update_to_bytes(made.update))) {
    violate(who + "is not what it learnt in this round");
  }
  if (!std::ranges::binary_search(plan.cohort, update.client)) violate(who + "was not asked");
}

/// What the aggregator makes of these updates and what it carried in an empty folder; the first
/// time it is compared with the sum itself.
core::Digest SerialModel::expected_payload(const std::vector<coordinator::StoredUpdate>& updates) {
  struct Made {
    core::Digest payload{};
    std::map<std::string, core::Bytes> files;  ///< what the next round starts from
  };
  static std::map<std::string, Made> known;
  const auto [found, is_new] = known.try_emplace(history_);
  if (!is_new) return found->second.payload;

  Disk disk(1, false);
  Disks::instance().mount("reference", &disk);
  const fs::path dir = "/chaos/reference";
  const auto before = known.find(history_.substr(0, history_.rfind(" /")));
  if (before != known.end()) {
    for (const auto& [name, content] : before->second.files) {
      core::write_file_atomic(dir / name, content);
    }
  }
  wire::BlobStore blobs(dir / "blobs");
  coordinator::OpenRound round{
      .plan = {.round = versions_.size(), .base_version = versions_.size() - 1}, .accepted = {}};
  for (const coordinator::StoredUpdate& stored : updates) {
    const auto& made = made_result(schedule_.has_large_payloads, versions_.size(),
                                   number_of(stored.update.client));
    blobs.put(tensors::update_to_bytes(made.update));
    round.accepted[stored.update.client] = {
        .client = stored.update.client,
        .payload = stored.update.payload,
        .num_examples = static_cast<std::uint64_t>(made.num_examples),
        .manifest = {}};
  }
  const coordinator::RoundAggregator aggregator(federation_.config, dir);
  const auto result = aggregator.aggregate(round, blobs);
  found->second.payload = blobs.adopt(result.payload);
  for (const std::string& file : disk.files()) {
    if (!file.starts_with("carry-" + text(versions_.size()))) continue;
    const core::Bytes& data = disk.find(file)->data;
    found->second.files[file] = data;
  }
  if (schedule_.compaction != "tolerance") {
    check_sum(tensors::read_factor_set(blobs.path(found->second.payload)), updates);
  }
  Disks::instance().mount("reference", nullptr);
  return found->second.payload;
}

/// Σ p_k · B_k · A_k, applied to a vector, and Σ p_k of the heads, in double.
void SerialModel::check_sum(const tensors::FactorSet& version,
                            const std::vector<coordinator::StoredUpdate>& updates) const {
  double total = 0.0;
  for (const auto& stored : updates) total += static_cast<double>(stored.update.num_examples);
  for (const auto& [module, published] : version.modules) {
    const auto in = static_cast<std::size_t>(published.a.size(1));
    std::vector<double> x(in);
    for (std::size_t i = 0; i < in; ++i) x[i] = std::cos(static_cast<double>(i));
    std::vector<double> expected(static_cast<std::size_t>(published.b.size(0)));
    for (const auto& stored : updates) {
      const auto& made = made_result(schedule_.has_large_payloads, versions_.size(),
                                     number_of(stored.update.client));
      const std::vector<double> part = times(made.update.modules.at(module), x);
      const double weight = static_cast<double>(made.num_examples) / total;
      for (std::size_t i = 0; i < part.size(); ++i) expected[i] += weight * part[i];
    }
    const std::vector<double> actual = times(published, x);
    for (std::size_t i = 0; i < actual.size(); ++i) {
      if (std::abs(actual[i] - expected[i]) > 1e-4) violate(module + ": the sum is wrong");
    }
  }
  double expected = 0.0;
  for (const auto& stored : updates) {
    const auto& made = made_result(schedule_.has_large_payloads, versions_.size(),
                                   number_of(stored.update.client));
    expected +=
        static_cast<double>(made.num_examples) / total * mark_of(made.update.dense.begin()->second);
  }
  if (std::abs(mark_of(version.dense.begin()->second) - expected) > 1e-5) {
    violate("the sum of the heads is wrong");
  }
}

void SerialModel::before_crash(coordinator::Store& store) {
  if (!open_) return;
  std::set<std::string> stored;
  for (const auto& update : store.updates(open_->round)) stored.insert(update.update.client);
  std::erase_if(open_->told, [&](const std::string& client) { return !stored.contains(client); });
}

void SerialModel::after_restart(coordinator::Store& store) {
  look(store);
  const auto state = store.load();
  std::set<std::string> there;
  if (state.open) {
    for (const auto& [client, update] : state.open->accepted) there.insert(client);
  }
  if (open_) {
    for (const std::string& client : open_->told) {
      if (there.contains(client)) continue;
      const auto& made = made_result(schedule_.has_large_payloads, open_->round, number_of(client));
      if (rotten_.contains(crypto::sha256(tensors::update_to_bytes(made.update)))) continue;
      violate("round " + text(open_->round) + ": " + client +
              " was told that its update is accepted, and a crash lost it");
    }
  }
  open_.reset();
  if (state.open) {
    open_ = {state.open->plan.round, state.open->plan.attempt, std::move(there)};
    if (open_->round != versions_.size()) violate("the open round does not follow the versions");
  }
}

void SerialModel::trains(const std::string& client, const client::TrainJob& job) {
  const std::uint64_t base = job.plan->base_version;
  if (base >= versions_.size() || job.plan->base_head != versions_[base].head) {
    violate(client + " trains from a version " + text(base) + " that was not published");
  }
  if (offered_.contains({client, base})) {
    violate(client + " trains again from version " + text(base) + ", of which it has offered");
  }
  if (job.state->version() != static_cast<std::int64_t>(base)) {
    violate(client + " trains from version " + std::to_string(job.state->version()) +
            " for a plan from version " + text(base));
  }
  const double mark = mark_of(job.state->dense().begin()->second);
  if (std::abs(mark - versions_[base].mark) > 1e-5) {
    violate(client + " trains from something else than version " + text(base));
  }
}

void SerialModel::offers(const std::string& client, const wire::Offer& offer) {
  const auto manifest = wire::decode_update(offer.update.bytes).value();
  offered_.emplace(client, manifest.base_version);
}

void SerialModel::follows(const std::string& client, const client::Contract& contract) const {
  const auto& heads = contract.heads();
  for (std::size_t i = 0; i < heads.size(); ++i) {
    if (i >= versions_.size() || heads[i] != versions_[i].head) {
      violate(client + " follows a version " + text(i) + " that was not published");
    }
  }
}

void SerialModel::ended(coordinator::Store& store) {
  look(store);
  const auto rounds = static_cast<std::uint64_t>(schedule_.rounds);
  if (versions_.size() != rounds + 1) {
    violate("over after " + text(versions_.size()) + " versions of " + text(rounds + 1));
  }
  if (const auto found = store.inconsistency()) violate("the state is inconsistent: " + *found);
  std::set<core::Digest> needed;
  for (const Version& version : versions_) needed.insert(version.payload);
  for (std::uint64_t round = 1; round <= rounds && schedule_.keeps_updates; ++round) {
    for (const auto& stored : store.updates(round)) needed.insert(stored.update.payload);
  }
  for (const core::Digest& blob : store.blobs().all()) {
    if (!needed.contains(blob)) violate("a payload that nobody needs stays: " + core::to_hex(blob));
  }
}

}  // namespace drystone::chaos
