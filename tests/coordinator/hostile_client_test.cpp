// What a member of the roster may try: each ends in a refusal for it, and in nothing for the
// others.

#include <limits>

#include <doctest/doctest.h>

#include "coordinator/gate.h"
#include "core/log.h"
#include "tests/coordinator/harness.h"
#include "wire/limits.h"

using namespace drystone;
using namespace drystone::test;
using core::Refusal;

TEST_CASE("coordinator: a roster that grants a client no update does without it") {
  core::init_log(core::LogLevel::Off);
  const TemporaryFolder dir;
  Federation federation(dir.path(), 2, 1);
  federation.roster().clients.at("client-2").max_rank = 0;
  federation.start();
  federation.hello("client-2");
  federation.hello("client-1");
  const auto task = federation.next<wire::Task>("client-1").value();
  CHECK(wire::decode_plan(task.plan.bytes)->cohort == std::vector<std::string>{"client-1"});
  const auto verdict = federation.take_part("client-2", task, 1, 0.25);
  CHECK(verdict->refusal == Refusal::NotInCohort);
  CHECK(federation.take_part("client-1", task, 2, 0.25)->accepted);
  federation.settle();
  CHECK(federation.coordinator().report().rounds.size() == 1);
}

TEST_CASE("gate: max_rank and max_examples at their ends") {
  const TemporaryFolder dir;
  Federation federation(dir.path(), 1, 1);
  federation.start();
  federation.hello("client-1");
  const auto task = federation.next<wire::Task>("client-1").value();
  coordinator::OpenRound round{.plan = wire::decode_plan(task.plan.bytes).value(), .accepted = {}};
  const core::Bytes payload = tensors::to_bytes(small_update(2, 0.25));
  const auto offer =
      federation.offer("client-1", federation.manifest("client-1", payload, round.plan), task);
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  for (const std::int64_t rank : {std::int64_t{0}, std::int64_t{1}, std::int64_t{2}, kMost}) {
    for (const std::int64_t examples : {std::int64_t{0}, std::int64_t{1}, kMost}) {
      CAPTURE(rank);
      CAPTURE(examples);
      crypto::Roster roster = federation.roster();
      roster.clients.at("client-1").max_rank = rank;
      roster.clients.at("client-1").max_examples = examples;
      coordinator::Gate gate(roster, small_layout());
      gate.open(round.plan, task.plan.bytes);
      const auto checked = gate.check_offer("client-1", offer.update, round);
      const bool fits = rank >= 1 && examples != 1;
      if (checked.has_value() != fits && rank == 1) continue;  // the size of rank 1 may do
      REQUIRE(checked.has_value() == fits);
      if (rank == 0) CHECK(checked.error().code == Refusal::RankAboveQuota);
    }
  }
}

TEST_CASE("coordinator: settings that no round could keep are refused at the start") {
  {
    const TemporaryFolder dir;
    Federation federation(dir.path(), 2, 1);
    federation.config().federation.quorum = 3;
    CHECK_THROWS_WITH_AS(federation.start(), doctest::Contains("federation.quorum: needs 3"),
                         core::ConfigError);
  }
  {
    const TemporaryFolder dir;
    Federation federation(dir.path(), 2, 1);
    federation.config().federation.quorum = 2;
    federation.config().federation.cohort = 1;
    CHECK_THROWS_WITH_AS(federation.start(), doctest::Contains("federation.quorum: needs 2"),
                         core::ConfigError);
  }
  {
    const TemporaryFolder dir;
    Federation federation(dir.path(), 1, 1);
    federation.roster().clients.at("client-1").max_rank = 0;
    CHECK_THROWS_WITH_AS(federation.start(), doctest::Contains("max_rank above 0"),
                         core::ConfigError);
  }
  for (const auto& [count, length] : {std::pair(16'385, 1), std::pair(16'384, 100)}) {
    const TemporaryFolder dir;
    Federation federation(dir.path(), 1, 1);
    const crypto::RosterEntry entry = federation.roster().clients.at("client-1");
    for (int i = 1; i < count; ++i) {
      std::string name = std::to_string(i);
      name.insert(0, static_cast<std::size_t>(length), 'c');
      federation.roster().clients[name] = entry;
    }
    CHECK_THROWS_WITH_AS(federation.start(), doctest::Contains("more than a plan can name"),
                         core::ConfigError);
  }
}

TEST_CASE("coordinator: whatever a handler throws is that client's refusal") {
  struct Broken final : coordinator::Observer {
    void on_joined(const std::string& client, const wire::Hello&) override {
      if (client == "client-2") throw std::runtime_error("a bug of ours");
    }
    void on_refused(const std::string& client, const core::Failure& failure) override {
      told.emplace_back(client, failure.code);
    }
    std::vector<std::pair<std::string, Refusal>> told;
  };
  core::init_log(core::LogLevel::Off);
  const TemporaryFolder dir;
  Federation federation(dir.path(), 2, 1);
  federation.config().federation.quorum = core::kHalf;
  federation.config().federation.grace = 1s;
  Broken broken;
  federation.start({&broken});
  federation.hello("client-2");
  CHECK(federation.next<wire::Refused>("client-2")->refusal == Refusal::LocalFailure);
  REQUIRE(broken.told.size() == 1);
  CHECK(broken.told.front().first == "client-2");
  CHECK(broken.told.front().second == Refusal::LocalFailure);
  federation.hello("client-1");
  federation.clock().advance(2s);
  federation.settle();
  const auto task = federation.next<wire::Task>("client-1").value();
  CHECK(federation.take_part("client-1", task, 2, 0.25)->accepted);
}

TEST_CASE("coordinator: a flood of greetings is bounded in log, metrics and report") {
  struct Counting final : coordinator::Observer {
    void on_joined(const std::string&, const wire::Hello&) override { ++joined; }
    void on_refused(const std::string&, const core::Failure&) override { ++refused; }
    int joined = 0;
    int refused = 0;
  };
  core::init_log(core::LogLevel::Off);
  const TemporaryFolder dir;
  Federation federation(dir.path(), 2, 1);
  Counting counting;
  federation.start({&counting});
  for (int i = 0; i < 5000; ++i) {
    federation.client("client-2")
        .send(wire::Hello{.software = "flood",
                          .base_sha256 = federation.config().model.sha256,
                          .device = "device " + std::to_string(i)});
    if (i % 500 == 0) {
      federation.settle();
      federation.clock().advance(10ms);
    }
  }
  federation.settle();
  CHECK(counting.joined <= 5);
  CHECK(counting.refused == 20);
  int answered = 0;
  while (federation.next<wire::Welcome>("client-2")) ++answered;
  CHECK(answered <= 2100);       // 2000 at once, then 500 a second
  federation.hello("client-1");  // everybody else is served as ever
  const auto task = federation.next<wire::Task>("client-1");
  CHECK(task.has_value());
}

TEST_CASE("coordinator: an honest receiver's ranges are never lost, a flood of them is") {
  core::init_log(core::LogLevel::Off);
  const TemporaryFolder dir;
  Federation federation(dir.path(), 2, 1);
  federation.start();
  const auto version =
      wire::decode_version(federation.coordinator().store().versions(0, 1).front().bytes).value();
  const wire::Want want{.blob = version.payload, .offset = 0, .length = 8};
  int chunks = 0;
  for (int i = 0; i < 400; ++i) {
    for (std::uint64_t k = 0; k < wire::kMaxOutstandingChunks; ++k) {
      federation.client("client-1").send(want);
    }
    while (federation.coordinator().step(0ms)) continue;
    federation.clock().advance(100ms);
    while (federation.coordinator().step(0ms)) continue;
    while (federation.next<wire::Chunk>("client-1")) ++chunks;
  }
  CHECK(chunks == 1600);
  for (int i = 0; i < 1000; ++i) federation.client("client-2").send(want);
  federation.settle();
  int served = 0;
  while (federation.next<wire::Chunk>("client-2")) ++served;
  CHECK(served <= 260);
}

TEST_CASE("coordinator: an evaluator's metrics cannot take the names of the line's own fields") {
  core::init_log(core::LogLevel::Off);
  const TemporaryFolder dir;
  Federation federation(dir.path(), 1, 1, /*evaluator=*/true);
  federation.start();
  federation.hello("evaluator");
  const auto head =
      wire::decode_version(federation.coordinator().store().versions(0, 1).front().bytes)->head;
  const auto report = [&](const std::string& metric) {
    core::Bytes bytes = wire::encode(wire::EvaluationManifest{0, "evaluator", 1, {{metric, 0.5}}});
    const auto signature =
        crypto::sign(federation.identity_of("evaluator"), "evaluation", head, bytes);
    federation.client("evaluator").send(wire::Report{{bytes, signature}, 1.0});
    federation.settle();
    return federation.next<wire::Refused>("evaluator");
  };
  for (const std::string name : {"event", "version", "", "a b", "<b>", "\"", "größe"}) {
    CAPTURE(name);
    const auto refused = report(name);
    REQUIRE(refused.has_value());
    CHECK(refused->refusal == Refusal::MalformedFrame);
  }
  CHECK_FALSE(report("accuracy").has_value());
}

TEST_CASE("coordinator: a plan must hold the longest names that may be chosen") {
  const TemporaryFolder dir;
  Federation federation(dir.path(), 1, 1);
  const crypto::RosterEntry entry = federation.roster().clients.at("client-1");
  const auto add = [&](const std::string& prefix) {
    for (int i = 0; i < 6000; ++i) {
      federation.roster().clients[prefix + std::to_string(i)] = entry;
    }
  };
  federation.config().federation.cohort = 6000;
  add("client-");
  federation.start();
  federation.crash();
  add("client-of-a-long-name-" + std::string(100, 'x'));
  CHECK_THROWS_WITH_AS(federation.start(), doctest::Contains("more than a plan can name"),
                       core::ConfigError);
}
