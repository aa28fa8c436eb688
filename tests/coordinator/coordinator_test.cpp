#include "coordinator/coordinator.h"

#include <limits>

#include <doctest/doctest.h>

#include "coordinator/federation_id.h"
#include "tests/coordinator/harness.h"

using namespace drystone;
using namespace drystone::test;

namespace {

// Both clients take their turns in every round, until the federation is over.
core::Digest run_to_the_end(Federation& federation) {
  for (int i = 0; i < 10 && !federation.coordinator().is_over(); ++i) {
    for (const std::string name : {"client-2", "client-1"}) {
      const auto task = federation.next<wire::Task>(name);
      if (task) federation.take_part(name, *task, name == "client-1" ? 2 : 4, 0.25);
    }
    federation.settle();
  }
  REQUIRE(federation.coordinator().is_over());
  return federation.coordinator().report().head;
}

}  // namespace

TEST_CASE("coordinator: two clients of different rank, two rounds, exact") {
  const TemporaryFolder dir;
  Federation federation(dir.path());
  federation.start_with({"client-1", "client-2"});
  run_to_the_end(federation);
  const auto report = federation.coordinator().report();
  REQUIRE(report.rounds.size() == 2);
  CHECK(report.rounds[0].accepted == 2);
  CHECK(report.rounds[0].stack_rank == 6);
  CHECK(report.rounds[0].compact_rank == 1);  // all factors are constant: rank one
  CHECK(report.rounds[0].exactness == "exact");
  auto& store = federation.coordinator().store();
  const auto manifest = wire::decode_version(store.versions(1, 1).front().bytes);
  const auto version = tensors::read_factor_set(store.blobs().path(manifest->payload));
  // Σ p_k B_k A_k with p = 1/2 each: (2 · 0.25 · 0.5 + 4 · 0.25 · 0.5) / 2
  CHECK(version.modules.at("layer.0.query").product().max().item<float>() ==
        doctest::Approx(0.375));
  CHECK(version.dense.at("classifier.weight").max().item<float>() == doctest::Approx(0.25));
  CHECK(report.device == "cpu");
  federation.crash();
  federation.start();
  CHECK(federation.coordinator().report().device == "cpu");
}

TEST_CASE("coordinator: a crash at any point loses nothing and ends in the same head") {
  core::Digest expected;
  {
    const TemporaryFolder dir;
    Federation federation(dir.path());
    federation.start_with({"client-1", "client-2"});
    expected = run_to_the_end(federation);
  }
  for (int when = 0; when < 6; ++when) {
    CAPTURE(when);
    const TemporaryFolder dir;
    Federation federation(dir.path());
    federation.start();
    const auto crash_if = [&](int point) {
      if (point != when) return;
      const auto before = federation.coordinator().store().state_hash();
      federation.crash();
      federation.start();
      CHECK(federation.coordinator().store().state_hash() == before);
      federation.hello("client-1");
      federation.hello("client-2");
    };
    federation.hello("client-1");
    crash_if(0);
    federation.hello("client-2");
    crash_if(1);
    const auto first = federation.next<wire::Task>("client-2");
    federation.take_part("client-2", *first, 4, 0.25);
    crash_if(2);
    const auto second = federation.next<wire::Task>("client-1");
    federation.take_part("client-1", *second, 2, 0.25);
    crash_if(3);
    federation.settle();
    crash_if(4);
    CHECK(run_to_the_end(federation) == expected);
  }
}

TEST_CASE("coordinator: a round in whose middle it was started says so, the next one does not") {
  const TemporaryFolder dir;
  Federation federation(dir.path());
  federation.start_with({"client-1", "client-2"});
  federation.take_part("client-1", *federation.next<wire::Task>("client-1"), 2, 0.25);
  federation.crash();
  federation.start_with({"client-1", "client-2"});
  run_to_the_end(federation);
  const auto report = federation.coordinator().report();
  REQUIRE(report.rounds.size() == 2);
  CHECK(report.rounds[0].since_restart);
  CHECK_FALSE(report.rounds[1].since_restart);
}

TEST_CASE("coordinator: an evaluator's figures reach the report") {
  const TemporaryFolder dir;
  Federation federation(dir.path(), 1, 1, /*evaluator=*/true);
  federation.start();
  federation.hello("evaluator");
  federation.hello("client-1");
  const auto task = federation.next<wire::Task>("client-1");
  REQUIRE(task.has_value());
  federation.take_part("client-1", *task, 2, 0.25);
  federation.settle();
  for (std::uint64_t version = 0; version < 2; ++version) {
    const auto ask = federation.next<wire::EvaluateTask>("evaluator");
    REQUIRE(ask.has_value());
    CHECK(ask->version == version);
    federation.client("evaluator")
        .send(federation.evaluation(version,
                                    {{"accuracy", 0.25 * static_cast<double>(version + 1)}}));
    federation.settle();
  }
  CHECK(federation.coordinator().is_over());
  const auto report = federation.coordinator().report();
  CHECK(report.before->at("accuracy") == 0.25);
  CHECK(report.after->at("accuracy") == 0.5);
  CHECK(federation.next<wire::Done>("evaluator").has_value());
}

TEST_CASE("coordinator: a version without a finite loss ends the federation, now and restarted") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const bool is_base_broken : {false, true}) {
    CAPTURE(is_base_broken);
    const TemporaryFolder dir;
    Federation federation(dir.path(), 1, 2, /*evaluator=*/true);
    federation.start();
    federation.hello("evaluator");
    federation.hello("client-1");
    federation.take_part("client-1", *federation.next<wire::Task>("client-1"), 2, 0.25);
    federation.settle();
    CHECK(federation.coordinator().sound_version() == 1);
    for (std::uint64_t version = 0; version < 2; ++version) {
      REQUIRE(federation.next<wire::EvaluateTask>("evaluator")->version == version);
      const double loss = version == 1 || is_base_broken ? nan : 1.0;
      federation.client("evaluator").send(federation.evaluation(version, {{"loss", loss}}));
      federation.settle();
    }
    if (is_base_broken) {  // no update's fault: what is measured is the operator's
      CHECK_FALSE(federation.coordinator().is_over());
      continue;
    }
    for (int life = 0; life < 2; ++life) {
      CHECK(federation.coordinator().is_over());
      REQUIRE(federation.coordinator().failure().has_value());
      CHECK(federation.coordinator().failure()->find("version 1: the loss of evaluator") == 0);
      CHECK(federation.coordinator().sound_version() == 0);
      federation.crash();
      federation.start();
    }
  }
}

TEST_CASE("coordinator: another configuration on the same state folder is refused") {
  const TemporaryFolder dir;
  Federation federation(dir.path());
  federation.start();
  federation.crash();
  federation.config().seed = 99;
  CHECK_THROWS_WITH_AS(federation.start(), doctest::Contains("begin anew with --start-over"),
                       core::ConfigError);
}

TEST_CASE("coordinator: the initial file stays where it was") {
  const TemporaryFolder dir;
  Federation federation(dir.path());
  federation.start();
  CHECK(fs::exists(dir.path() / "initial.safetensors"));
}

TEST_CASE("coordinator: a client that declines an abandoned round late is asked again") {
  const TemporaryFolder dir;
  Federation federation(dir.path(), 2, 1);
  federation.start_with({"client-1", "client-2"});
  const auto late =
      wire::decode_plan(federation.next<wire::Task>("client-2").value().plan.bytes).value();
  CHECK(federation.take_part("client-1", *federation.next<wire::Task>("client-1"), 2, 0.25)
            ->accepted);
  federation.clock().advance(federation.config().federation.deadline + 1s);
  federation.settle();
  CHECK_FALSE(federation.next<wire::Task>("client-2").has_value());
  federation.client("client-2")
      .send(wire::Decline{.round = late.round,
                          .attempt = late.attempt,
                          .refusal = core::Refusal::TrainingFailed,
                          .detail = "for a while"});
  federation.settle();
  CHECK(federation.next<wire::Task>("client-2").has_value());
}

TEST_CASE("coordinator: a client that answers an abandoned round late is asked again") {
  const TemporaryFolder dir;
  Federation federation(dir.path(), 2, 1);
  federation.start_with({"client-1", "client-2"});
  const auto late = federation.next<wire::Task>("client-2").value();
  const auto task = federation.next<wire::Task>("client-1").value();
  CHECK(federation.take_part("client-1", task, 2, 0.25)->accepted);
  federation.clock().advance(61s);
  federation.settle();  // abandoned; client-2 is connected all the while and says no Hello
  const auto verdict = federation.take_part("client-2", late, 2, 0.25);
  CHECK(verdict->refusal == core::Refusal::RoundClosed);
  federation.settle();
  CHECK(federation.next<wire::Task>("client-2").has_value());
}

TEST_CASE("coordinator: a client whose upload the deadline cut off is told, and asked again") {
  for (const bool is_abandoned : {true, false}) {
    CAPTURE(is_abandoned);
    const TemporaryFolder dir;
    Federation federation(dir.path(), 2, 4);
    federation.config().federation.quorum = is_abandoned ? 0 : 1;
    federation.start_with({"client-1", "client-2"});
    const auto task = federation.next<wire::Task>("client-1").value();
    CHECK(federation.take_part("client-1", task, 2, 0.25)->accepted);
    const auto plan = wire::decode_plan(task.plan.bytes);
    const core::Bytes payload = tensors::to_bytes(small_update(2, 0.5));
    const auto offer =
        federation.offer("client-2", federation.manifest("client-2", payload, *plan), task);
    federation.client("client-2").send(offer);
    federation.settle();
    CHECK(federation.next<wire::Want>("client-2").has_value());
    federation.clock().advance(61s);
    federation.settle();
    CHECK(federation.next<wire::Verdict>("client-2")->refusal == core::Refusal::RoundClosed);
    // It is there all the while and says no Hello.
    bool is_asked = federation.next<wire::Task>("client-2").has_value();
    for (int round = 2; round <= 4 && !is_asked; ++round) {
      const auto next = federation.next<wire::Task>("client-1");
      REQUIRE(next.has_value());
      CHECK(federation.take_part("client-1", *next, 2, 0.25)->accepted);
      is_asked = federation.next<wire::Task>("client-2").has_value();
    }
    CHECK(is_asked);
  }
}

TEST_CASE("coordinator: an offer that can only be refused answers for its client") {
  const TemporaryFolder dir;
  Federation federation(dir.path(), 2, 1);
  federation.config().federation.quorum = 1;
  federation.start_with({"client-1", "client-2"});
  const auto task = federation.next<wire::Task>("client-1").value();
  CHECK(federation.take_part("client-1", task, 2, 0.25)->accepted);
  const auto plan = wire::decode_plan(task.plan.bytes);
  auto manifest = federation.manifest("client-2", core::Bytes(10), *plan);
  manifest.payload_bytes = 1ULL << 40;
  federation.client("client-2").send(federation.offer("client-2", manifest, task));
  federation.settle();  // nobody waits for the deadline
  CHECK(federation.coordinator().report().rounds.size() == 1);
  CHECK(federation.coordinator().report().rounds.front().rejected.at("too-large") == 1);
}

TEST_CASE("coordinator: what an honest client sends again around a restart is no offence") {
  const TemporaryFolder dir;
  Federation federation(dir.path(), 1);
  federation.start();
  federation.hello("client-1");
  const auto task = federation.next<wire::Task>("client-1");
  REQUIRE(task.has_value());
  const auto plan = wire::decode_plan(task->plan.bytes);
  const core::Bytes payload = tensors::to_bytes(small_update(1, 0.5));
  const auto offer =
      federation.offer("client-1", federation.manifest("client-1", payload, *plan), *task);
  federation.client("client-1").send(offer);
  federation.settle();
  const auto want = federation.next<wire::Want>("client-1");
  REQUIRE(want.has_value());
  federation.crash();
  federation.start();
  // The chunk was on its way to the life that asked for it; offer and chunks come again, twice.
  federation.client("client-1").send(Federation::chunk(*want, payload));
  federation.hello("client-1");
  CHECK_FALSE(federation.next<wire::Refused>("client-1").has_value());
  federation.client("client-1").send(offer);
  federation.client("client-1").send(offer);
  federation.settle();
  federation.client("client-1").send(Federation::chunk(*want, payload));
  federation.client("client-1").send(Federation::chunk(*want, payload));
  federation.settle();
  federation.client("client-1").send(Federation::chunk(*want, payload));
  federation.settle();
  CHECK_FALSE(federation.next<wire::Refused>("client-1").has_value());
  const auto rounds = federation.coordinator().report().rounds;
  REQUIRE(rounds.size() == 1);
  CHECK(rounds[0].accepted == 1);
  CHECK(rounds[0].rejected.empty());
  wire::Chunk foreign = Federation::chunk(*want, payload);
  foreign.blob = crypto::sha256(core::as_bytes("another"));
  federation.client("client-1").send(foreign);
  federation.settle();
  const auto refused = federation.next<wire::Refused>("client-1");
  REQUIRE(refused.has_value());
  CHECK(refused->refusal == core::Refusal::MalformedFrame);
}

TEST_CASE("coordinator: a client that floods is counted, not answered for ever") {
  struct Refusals final : coordinator::Observer {
    void on_refused(const std::string&, const core::Failure&) override { ++count; }
    int count = 0;
  };
  const TemporaryFolder dir;
  Federation federation(dir.path(), 2, 1);
  Refusals refusals;
  federation.start({&refusals});
  federation.hello("client-1");
  federation.hello("client-2");
  const auto task = federation.next<wire::Task>("client-1").value();
  for (int i = 0; i < 50; ++i) {
    federation.client("client-2").send(wire::Done{1});
    federation.settle();
  }
  CHECK(refusals.count == 20);
  for (const char* client : {"client-1", "client-2"}) {
    CHECK(federation.take_part(client, task, 2, 0.25)->accepted);
  }
  federation.settle();
  CHECK(federation.coordinator().report().rounds.front().rejected.at("malformed-frame") == 50);
}

TEST_CASE("coordinator: what a crash left over in blobs/ is swept, a second one is refused") {
  const TemporaryFolder dir;
  Federation federation(dir.path(), 1, 1);
  federation.start();
  const coordinator::StateOwner same = {
      .federation = coordinator::federation_id(federation.config()),
      .coordinator = identity("coordinator").public_part.signing};
  CHECK_THROWS_WITH_AS(coordinator::Store(dir.path() / "state", same),
                       doctest::Contains("another process uses this state folder"), core::IoError);
  const core::Digest stray = federation.coordinator().store().blobs().put(core::Bytes(10));
  const auto kept = federation.coordinator().store().blobs().all().size();
  federation.crash();
  federation.start();
  auto& blobs = federation.coordinator().store().blobs();
  CHECK_FALSE(blobs.contains(stray));
  CHECK(blobs.all().size() == kept - 1);
}

TEST_CASE("coordinator: a start sweeps interrupted writes, and uploads that nobody will continue") {
  const TemporaryFolder dir;
  Federation federation(dir.path(), 2, 1);
  federation.start();
  const fs::path partial =
      federation.coordinator().store().blobs().partial_path(crypto::sha256(core::Bytes(3)));
  const fs::path begun = dir / "state" / "sum-0.sha256.tmp-0123456789abcdef";
  const fs::path others = dir / "state" / "notes.tmp-1";
  const auto start_after_a_kill = [&] {
    federation.crash();
    for (const fs::path& file : {partial, begun, others}) std::ofstream(file) << "left";
    federation.start();
    CHECK_FALSE(fs::exists(begun));
    CHECK(fs::exists(others));
  };
  start_after_a_kill();
  CHECK_FALSE(fs::exists(partial));
  for (const char* const client : {"client-1", "client-2"}) federation.hello(client);
  start_after_a_kill();
  CHECK(fs::exists(partial));  // a round is open: its client may send the rest
}

TEST_CASE("coordinator: an evaluator's figures count once and are its own") {
  const TemporaryFolder dir;
  Federation federation(dir.path(), 1, 1, /*evaluator=*/true);
  federation.start();
  federation.hello("evaluator");
  auto& store = federation.coordinator().store();
  const auto head = wire::decode_version(store.versions(0, 1).front().bytes)->head;
  const auto report = [&](const std::string& signer, double accuracy) {
    core::Bytes bytes =
        wire::encode(wire::EvaluationManifest{0, signer, 100, {{"accuracy", accuracy}}});
    const auto signature =
        crypto::sign(federation.identity_of("evaluator"), "evaluation", head, bytes);
    federation.client("evaluator").send(wire::Report{{bytes, signature}, 1.0});
    federation.settle();
    return federation.next<wire::Refused>("evaluator");
  };
  CHECK(report("client-1", 0.9)->refusal == core::Refusal::UnknownClient);
  CHECK_FALSE(report("evaluator", 0.5).has_value());
  CHECK(report("evaluator", 0.9)->refusal == core::Refusal::Replay);
  CHECK(federation.coordinator().report().before->at("accuracy") == 0.5);
}

TEST_CASE("coordinator: a payload that is being checked when its round closes leaves nothing") {
  const TemporaryFolder dir;
  Federation federation(dir.path(), 2, 1);
  federation.config().federation.quorum = 1;
  federation.start_with({"client-1", "client-2"});
  CHECK(federation.take_part("client-1", *federation.next<wire::Task>("client-1"), 2, 0.25)
            ->accepted);

  const auto task = federation.next<wire::Task>("client-2").value();
  const core::Bytes payload = tensors::to_bytes(small_update(4, 0.5));
  const auto manifest =
      federation.manifest("client-2", payload, wire::decode_plan(task.plan.bytes).value());
  federation.client("client-2").send(federation.offer("client-2", manifest, task));
  federation.settle();
  const auto want = federation.next<wire::Want>("client-2").value();
  federation.hold_work(true);
  federation.client("client-2").send(Federation::chunk(want, payload));
  federation.settle();
  auto& blobs = federation.coordinator().store().blobs();
  CHECK(blobs.contains(manifest.payload));
  federation.clock().advance(federation.config().federation.deadline + 1s);
  federation.settle();
  CHECK(federation.coordinator().is_busy());

  federation.hold_work(false);
  federation.settle();
  CHECK_FALSE(blobs.contains(manifest.payload));
  CHECK(federation.coordinator().is_over());
  CHECK(federation.coordinator().report().rounds.at(0).accepted == 1);
  CHECK(federation.next<wire::Verdict>("client-2")->refusal == core::Refusal::RoundClosed);
}
