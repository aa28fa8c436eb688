// Every refusal of the gate: typed reason, unchanged state, and nobody else disturbed.

#include "coordinator/gate.h"

#include <limits>

#include <doctest/doctest.h>

#include "core/seed.h"
#include "tests/coordinator/harness.h"
#include "wire/durable_file.h"

using namespace drystone;
using namespace drystone::test;
using core::Refusal;

namespace {

struct Attack {
  TemporaryFolder dir;
  Federation federation{dir.path(), 3, 1};
  wire::Task task;
  wire::RoundPlan plan;
  core::Digest before;

  Attack() {
    federation.config().federation.quorum = 2;
    federation.start();
    for (const char* name : {"client-1", "client-2", "client-3"}) federation.hello(name);
    task = federation.next<wire::Task>("client-1").value();
    plan = wire::decode_plan(task.plan.bytes).value();
    before = federation.coordinator().store().state_hash();
  }

  wire::UpdateManifest claim(const core::Bytes& payload) {
    return federation.manifest("client-1", payload, plan);
  }

  // The attacker is refused for `reason`; then the two others finish the federation without it.
  void check(const std::optional<wire::Verdict>& verdict, Refusal reason) {
    REQUIRE(verdict.has_value());
    CHECK_FALSE(verdict->accepted);
    CHECK(core::name(verdict->refusal) == core::name(reason));
    CHECK(federation.coordinator().store().state_hash() == before);
    for (const std::string name : {"client-2", "client-3"}) {
      const auto own = federation.next<wire::Task>(name);
      REQUIRE(own.has_value());
      CHECK(federation.take_part(name, *own, 2, 0.25)->accepted);
    }
    federation.clock().advance(61s);
    federation.settle();
    REQUIRE(federation.coordinator().is_over());
    const auto report = federation.coordinator().report();
    REQUIRE(report.rounds.size() == 1);
    CHECK(report.rounds[0].accepted == 2);
    CHECK(report.rounds[0].rejected.at(core::name(reason)) == 1);
  }

  void check_payload(const core::Bytes& payload, Refusal reason) {
    check(
        federation.upload("client-1", federation.offer("client-1", claim(payload), task), payload),
        reason);
  }
};

core::Bytes honest_payload() { return tensors::to_bytes(small_update(2, 0.25)); }

}  // namespace

TEST_CASE("gate: a signature by another key") {
  Attack attack;
  auto offer = attack.federation.offer("client-1", attack.claim(honest_payload()), attack.task);
  offer.update.signature = crypto::sign(
      identity("stranger"), "update", wire::transcript(attack.task.plan.bytes), offer.update.bytes);
  attack.check(attack.federation.upload("client-1", offer, honest_payload()),
               Refusal::BadSignature);
}

TEST_CASE("gate: dense parts that would drown the model, and factors of four thousand million") {
  for (const float value : {3e38F, 1e4F}) {
    CAPTURE(value);
    Attack attack;
    tensors::FactorSet update = small_update(2, 0.25);
    update.dense["classifier.weight"] = at::full({3, 8}, value);
    attack.check_payload(tensors::to_bytes(update), Refusal::NormAboveBound);
  }
  Attack attack;
  tensors::FactorSet update = small_update(2, 0.25);
  update.modules["layer.0.query"] = {at::full({12, 2}, 18000.0), at::full({2, 8}, 22000.0)};
  attack.check_payload(tensors::to_bytes(update), Refusal::NormAboveBound);
}

TEST_CASE("gate: without a bound on norms the same dense part is accepted") {
  const TemporaryFolder dir;
  Federation federation(dir.path(), 1, 1);
  federation.config().aggregation.max_norm = 0.0;
  federation.start();
  federation.hello("client-1");
  const auto task = federation.next<wire::Task>("client-1");
  const auto plan = wire::decode_plan(task->plan.bytes);
  tensors::FactorSet update = small_update(2, 0.25);
  update.dense["classifier.weight"] = at::full({3, 8}, 1e4);
  const core::Bytes payload = tensors::to_bytes(update);
  const auto verdict = federation.upload(
      "client-1",
      federation.offer("client-1", federation.manifest("client-1", payload, *plan), *task),
      payload);
  CHECK(verdict->accepted);
}

TEST_CASE("gate: a signature over another round's transcript") {
  Attack attack;
  auto offer = attack.federation.offer("client-1", attack.claim(honest_payload()), attack.task);
  offer.update.signature = crypto::sign(attack.federation.identity_of("client-1"), "update",
                                        core::Digest{}, offer.update.bytes);
  attack.check(attack.federation.upload("client-1", offer, honest_payload()),
               Refusal::BadSignature);
}

TEST_CASE("gate: one client's signed update sent by another") {
  Attack attack;
  auto claim = attack.federation.manifest("client-2", honest_payload(), attack.plan);
  const auto offer = attack.federation.offer("client-1", claim, attack.task);
  attack.check(attack.federation.upload("client-1", offer, honest_payload()),
               Refusal::UnknownClient);
}

TEST_CASE("gate: an answer to an earlier attempt of the round is late, not forged") {
  const TemporaryFolder dir;
  Federation federation(dir.path(), 1);
  coordinator::Gate gate(federation.roster(), small_layout());
  std::vector<wire::Task> tasks;
  coordinator::OpenRound round;
  for (std::uint64_t attempt = 1; attempt <= 3; ++attempt) {
    round.plan = {.round = 1, .attempt = attempt, .cohort = {"client-1"}};
    core::Bytes bytes = wire::encode(round.plan);
    gate.open(round.plan, bytes);
    tasks.push_back({.plan = {std::move(bytes), {}}});
  }
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    CAPTURE(i);
    const auto plan = wire::decode_plan(tasks[i].plan.bytes).value();
    const auto claim = federation.manifest("client-1", honest_payload(), plan);
    const auto offer = federation.offer("client-1", claim, tasks[i]);
    const auto checked = gate.check_offer("client-1", offer.update, round);
    if (i == 2) {
      CHECK(checked.has_value());
    } else {
      REQUIRE_FALSE(checked.has_value());
      CHECK(checked.error().code == Refusal::RoundClosed);
    }
  }
}

TEST_CASE("gate: a replay is refused and counts nothing twice") {
  TemporaryFolder dir;
  Federation federation(dir.path(), 2, 1);
  federation.start_with({"client-1", "client-2"});
  const auto task = federation.next<wire::Task>("client-1").value();
  const auto plan = wire::decode_plan(task.plan.bytes).value();
  const core::Bytes payload = honest_payload();
  const auto offer =
      federation.offer("client-1", federation.manifest("client-1", payload, plan), task);
  CHECK(federation.upload("client-1", offer, payload)->accepted);
  const auto before = federation.coordinator().store().state_hash();
  CHECK(federation.upload("client-1", offer, payload)->refusal == Refusal::Replay);
  CHECK(federation.coordinator().store().state_hash() == before);
  const auto own = federation.next<wire::Task>("client-2").value();
  CHECK(federation.take_part("client-2", own, 2, 0.25)->accepted);
  federation.settle();
  CHECK(federation.coordinator().is_over());
  CHECK(federation.upload("client-1", offer, payload)->refusal == Refusal::RoundClosed);
}

TEST_CASE("gate: a rank above the quota") {
  Attack attack;
  attack.check_payload(tensors::to_bytes(small_update(5, 0.25)), Refusal::RankAboveQuota);
}

TEST_CASE("gate: more bytes than the quota's rank can need") {
  Attack attack;
  attack.check_payload(tensors::to_bytes(small_update(64, 0.25)), Refusal::TooLarge);
}

TEST_CASE("gate: a rank above the quota hidden in one module, the total within bounds") {
  Attack attack;
  tensors::FactorSet update = small_update(1, 0.25);
  update.modules["layer.0.query"] = {at::full({12, 5}, 0.25), at::full({5, 8}, 0.5)};
  attack.check_payload(tensors::to_bytes(update), Refusal::RankAboveQuota);
}

TEST_CASE("gate: NaN and infinity in factors and in dense parts") {
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    Attack factors;
    tensors::FactorSet update = small_update(2, 0.25);
    update.modules["layer.0.value"].a[1][7] = bad;
    factors.check_payload(tensors::to_bytes(update), Refusal::NotFinite);
    Attack dense;
    update = small_update(2, 0.25);
    update.dense["classifier.weight"][2][7] = bad;
    dense.check_payload(tensors::to_bytes(update), Refusal::NotFinite);
  }
}

TEST_CASE("gate: a module that the plan does not have, or of another shape") {
  Attack extra;
  tensors::FactorSet update = small_update(1, 0.25);
  update.modules["layer.9.query"] = {at::full({12, 1}, 0.25), at::full({1, 8}, 0.5)};
  extra.check_payload(tensors::to_bytes(update), Refusal::PlanMismatch);
  Attack reshaped;
  update = small_update(2, 0.25);
  update.modules["layer.0.query"] = {at::full({8, 2}, 0.25), at::full({2, 12}, 0.5)};
  reshaped.check_payload(tensors::to_bytes(update), Refusal::PlanMismatch);
}

TEST_CASE("gate: a hidden overflow in one side of a pair") {
  Attack attack;
  tensors::FactorSet update = small_update(2, 0.25);
  update.modules["layer.0.query"].b *= 1e9;
  update.modules["layer.0.query"].a *= 1e-9;
  attack.check_payload(tensors::to_bytes(update), Refusal::BadGauge);
}

TEST_CASE("gate: bytes other than those signed") {
  Attack attack;
  const auto offer =
      attack.federation.offer("client-1", attack.claim(honest_payload()), attack.task);
  core::Bytes other = honest_payload();
  other.back() ^= 1;
  attack.check(attack.federation.upload("client-1", offer, other), Refusal::PayloadMismatch);
}

TEST_CASE("gate: an upload that ends early") {
  Attack attack;
  auto offer = attack.federation.offer("client-1", attack.claim(honest_payload()), attack.task);
  core::Bytes cut = honest_payload();
  cut.resize(cut.size() / 2);
  const auto verdict = attack.federation.upload("client-1", offer, cut);
  REQUIRE(verdict.has_value());
  attack.check(verdict, verdict->refusal);
  CHECK_FALSE(verdict->accepted);
}

TEST_CASE("gate: a claim of ten gigabytes costs nothing") {
  Attack attack;
  auto claim = attack.claim(honest_payload());
  claim.payload_bytes = 10'000'000'000;
  attack.check(attack.federation.upload(
                   "client-1", attack.federation.offer("client-1", claim, attack.task), {}),
               Refusal::TooLarge);
}

TEST_CASE("gate: another base version, no examples, more examples than the contract grants") {
  {
    Attack attack;
    auto claim = attack.claim(honest_payload());
    claim.base_version = 7;
    attack.check(attack.federation.upload(
                     "client-1", attack.federation.offer("client-1", claim, attack.task), {}),
                 Refusal::WrongBase);
  }
  for (const std::uint64_t examples : {0ULL, 101ULL}) {
    Attack attack;
    auto claim = attack.claim(honest_payload());
    claim.num_examples = examples;
    attack.check(attack.federation.upload(
                     "client-1", attack.federation.offer("client-1", claim, attack.task), {}),
                 Refusal::ExamplesAboveCap);
  }
}

TEST_CASE("gate: random bytes in place of a signed manifest") {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    CAPTURE(seed);
    Attack attack;
    core::SplitMix64 random(seed);
    auto offer = attack.federation.offer("client-1", attack.claim(honest_payload()), attack.task);
    offer.update.bytes.resize(random.below(200));
    for (auto& byte : offer.update.bytes) byte = static_cast<std::uint8_t>(random());
    const auto verdict = attack.federation.upload("client-1", offer, {});
    REQUIRE(verdict.has_value());
    CHECK(verdict->refusal == Refusal::BadSignature);
    CHECK(attack.federation.coordinator().store().state_hash() == attack.before);
  }
}

namespace {

// Answers the Wants that are there for `name` from `payload`.
void answer_wants(Federation& federation, const std::string& name, const core::Bytes& payload) {
  while (const auto want = federation.next<wire::Want>(name)) {
    federation.client(name).send(Federation::chunk(*want, payload));
  }
}

}  // namespace

TEST_CASE("gate: a copy of an accepted payload, refused, leaves the accepted one alone") {
  Attack attack;
  Federation& federation = attack.federation;
  const core::Bytes payload = honest_payload();
  const auto own = federation.next<wire::Task>("client-2").value();
  CHECK(federation.take_part("client-2", own, 2, 0.25)->accepted);
  auto claim = attack.claim(payload);
  claim.payload_bytes -= 1;  // refused once the bytes are looked at
  const auto offer = federation.offer("client-1", claim, attack.task);
  CHECK(federation.upload("client-1", offer, payload)->refusal == Refusal::PayloadMismatch);
  CHECK(federation.coordinator().store().blobs().contains(crypto::sha256(payload)));
  const auto last = federation.next<wire::Task>("client-3").value();
  CHECK(federation.take_part("client-3", last, 2, 0.5)->accepted);
  federation.settle();
  CHECK(federation.coordinator().is_over());
}

TEST_CASE("gate: offering a published version as an update does not delete the version") {
  Attack attack;
  auto& store = attack.federation.coordinator().store();
  const auto version = wire::decode_version(store.versions(0, 1).front().bytes).value();
  auto claim = attack.claim(honest_payload());
  claim.payload = version.payload;
  claim.payload_bytes = version.payload_bytes;
  const auto offer = attack.federation.offer("client-1", claim, attack.task);
  const auto verdict = attack.federation.upload("client-1", offer, {});
  CHECK(store.blobs().contains(version.payload));
  attack.check(verdict, Refusal::PlanMismatch);
}

TEST_CASE("gate: the same bad payload offered over and over is judged once, and stops nobody") {
  Attack attack;
  const core::Bytes bad = tensors::to_bytes(small_update(5, 0.25));
  auto claim = attack.claim(bad);
  claim.payload_bytes = bad.size();
  const auto offer = attack.federation.offer("client-1", claim, attack.task);
  attack.federation.client("client-1").send(offer);
  attack.federation.settle();
  answer_wants(attack.federation, "client-1", bad);
  for (int i = 0; i < 20; ++i) attack.federation.client("client-1").send(offer);
  attack.federation.settle();
  const auto verdict = attack.federation.next<wire::Verdict>("client-1");
  CHECK_FALSE(attack.federation.coordinator().store().blobs().contains(claim.payload));
  attack.check(verdict, Refusal::RankAboveQuota);
}

TEST_CASE("gate: two clients send the same bytes at a time, one of them others in the end") {
  Attack attack;
  Federation& federation = attack.federation;
  const core::Bytes payload = honest_payload();
  federation.client("client-1")
      .send(federation.offer("client-1", attack.claim(payload), attack.task));
  federation.settle();
  const auto want = federation.next<wire::Want>("client-1").value();
  const auto own = federation.next<wire::Task>("client-2").value();
  federation.client("client-2")
      .send(
          federation.offer("client-2", federation.manifest("client-2", payload, attack.plan), own));
  federation.settle();
  CHECK_FALSE(federation.next<wire::Want>("client-2").has_value());  // one writer a file
  core::Bytes other = payload;
  other.back() ^= 1;
  federation.client("client-1").send(Federation::chunk(want, other));
  federation.settle();
  CHECK(federation.next<wire::Verdict>("client-1")->refusal == Refusal::PayloadMismatch);
  answer_wants(federation, "client-2", payload);
  federation.settle();
  CHECK(federation.next<wire::Verdict>("client-2")->accepted);
  auto& blobs = federation.coordinator().store().blobs();
  CHECK(wire::hash_file(blobs.path(crypto::sha256(payload))) == crypto::sha256(payload));
}

TEST_CASE("gate: offers that are never honoured leave no files") {
  Attack attack;
  Federation& federation = attack.federation;
  std::vector<core::Digest> payloads;
  for (int i = 0; i < 10; ++i) {
    const core::Bytes payload = tensors::to_bytes(small_update(2, 0.25 + i));
    payloads.push_back(crypto::sha256(payload));
    federation.client("client-1")
        .send(federation.offer("client-1", attack.claim(payload), attack.task));
    federation.settle();
  }
  auto& blobs = federation.coordinator().store().blobs();
  for (int i = 0; i < 9; ++i) {
    CHECK_FALSE(std::filesystem::exists(blobs.partial_path(payloads[static_cast<std::size_t>(i)])));
  }
  CHECK(std::filesystem::exists(blobs.partial_path(payloads.back())));
}

TEST_CASE("gate: a chunk that comes twice, as after a reconnect, changes nothing") {
  Attack attack;
  Federation& federation = attack.federation;
  const core::Bytes payload = honest_payload();
  const auto offer = federation.offer("client-1", attack.claim(payload), attack.task);
  federation.client("client-1").send(offer);
  federation.client("client-1").send(offer);
  federation.settle();
  answer_wants(federation, "client-1", payload);
  federation.settle();
  CHECK(federation.next<wire::Verdict>("client-1")->accepted);
}

TEST_CASE("gate: nobody fetches another client's update") {
  Attack attack;
  Federation& federation = attack.federation;
  const auto own = federation.next<wire::Task>("client-2").value();
  CHECK(federation.take_part("client-2", own, 2, 0.25)->accepted);
  federation.client("client-3")
      .send(wire::Want{.blob = crypto::sha256(honest_payload()), .offset = 0, .length = 8});
  federation.settle();
  CHECK(federation.next<wire::Refused>("client-3")->refusal == Refusal::PayloadMismatch);
}

TEST_CASE("gate: an offer that corrects its size is fetched by the new one") {
  Attack attack;
  Federation& federation = attack.federation;
  const core::Bytes payload = honest_payload();
  auto claim = attack.claim(payload);
  claim.payload_bytes -= 1;
  federation.client("client-1").send(federation.offer("client-1", claim, attack.task));
  federation.settle();
  CHECK(federation.next<wire::Want>("client-1")->length == payload.size() - 1);
  const auto offer = federation.offer("client-1", attack.claim(payload), attack.task);
  const auto verdict = federation.upload("client-1", offer, payload);
  REQUIRE(verdict.has_value());
  CHECK(verdict->accepted);
}
