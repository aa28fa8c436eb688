// Our own disk fails: at every open and write in turn, and for a while. The federation lives.

#include <cerrno>
#include <cstring>

#include <doctest/doctest.h>

#include "core/files.h"
#include "core/log.h"
#include "tests/coordinator/faulty_files.h"
#include "tests/coordinator/harness.h"

using namespace drystone;
using namespace drystone::test;

namespace {

/// Everybody answers what is asked, time passes, until the federation is over.
void run_to_the_end(Federation& federation, const std::vector<std::string>& names) {
  for (int i = 0; i < 60 && !federation.coordinator().is_over(); ++i) {
    for (const std::string& name : names) {
      if (const auto task = federation.next<wire::Task>(name)) {
        federation.take_part(name, *task, 2, 0.25);
      }
    }
    federation.settle();
    federation.clock().advance(2s);
    federation.settle();
  }
}

core::Digest head_after(int error, int first, int count, int& num_calls) {
  const TemporaryFolder dir;
  Federation federation(dir.path(), 1, 1);
  federation.start();
  {
    const FailingFiles files(error, first, count);
    federation.hello("client-1");
    run_to_the_end(federation, {"client-1"});
    num_calls = files.num_calls();
  }
  CHECK(federation.coordinator().is_over());
  CHECK_FALSE(federation.coordinator().failure().has_value());
  REQUIRE(federation.coordinator().report().rounds.size() == 1);
  CHECK(federation.coordinator().report().rounds[0].bytes_up > 500);  // also when published late
  return federation.coordinator().report().head;
}

}  // namespace

TEST_CASE(
    "coordinator: one failing open, write, sync or rename, wherever, changes nothing in the end") {
  core::init_log(core::LogLevel::Off);
  int num_calls = 0;
  const core::Digest expected = head_after(0, 0, 0, num_calls);
  REQUIRE(num_calls > 20);
  MESSAGE(num_calls << " calls");
  for (const int error : {EMFILE, ENOSPC, EIO}) {
    for (int first = 0; first < num_calls; ++first) {
      CAPTURE(std::strerror(error));
      CAPTURE(first);
      int ignored = 0;
      head_after(error, first, 1, ignored);
    }
  }
  CHECK(head_after(0, 0, 0, num_calls) == expected);
}

TEST_CASE("coordinator: a full disk refuses an upload with the reason, and is waited for") {
  core::init_log(core::LogLevel::Off);
  for (const int error : {ENOSPC, EIO}) {
    const TemporaryFolder dir;
    Federation federation(dir.path(), 2, 2);
    federation.start_with({"client-1", "client-2"});
    const auto task = federation.next<wire::Task>("client-1").value();
    {
      const FailingFiles files(error, 0, 1'000'000);
      const auto verdict = federation.take_part("client-1", task, 2, 0.25);
      REQUIRE(verdict.has_value());
      CHECK(verdict->refusal == core::Refusal::LocalFailure);
      CHECK(verdict->detail.find(dir.path().string()) == std::string::npos);  // its paths are ours
      for (int i = 0; i < 5; ++i) {
        federation.clock().advance(20s);
        federation.settle();
      }
    }
    CHECK_FALSE(federation.coordinator().is_over());
    federation.hello("client-1");
    federation.hello("client-2");
    run_to_the_end(federation, {"client-1", "client-2"});
    CHECK(federation.coordinator().is_over());
    CHECK_FALSE(federation.coordinator().failure().has_value());
    CHECK(federation.coordinator().report().rounds.size() == 2);
  }
}

TEST_CASE(
    "coordinator: a federation that fails while the disk is full has failed, and is not done") {
  core::init_log(core::LogLevel::Off);
  const TemporaryFolder dir;
  Federation federation(dir.path(), 2, 1);
  federation.start_with({"client-1", "client-2"});
  const auto plan =
      wire::decode_plan(federation.next<wire::Task>("client-1").value().plan.bytes).value();
  const FailingFiles files(ENOSPC, 0, 1'000'000);
  for (const char* const client : {"client-1", "client-2"}) {
    federation.client(client).send(wire::Decline{.round = plan.round,
                                                 .attempt = plan.attempt,
                                                 .refusal = core::Refusal::TrainingFailed,
                                                 .detail = "out of memory"});
  }
  federation.settle();
  CHECK(federation.coordinator().is_over());
  REQUIRE(federation.coordinator().failure().has_value());
  CHECK(federation.coordinator().failure()->find("mend these clients") != std::string::npos);
  federation.hello("client-2");
  CHECK_FALSE(federation.next<wire::Done>("client-2").has_value());  // it may be asked again
}

TEST_CASE("coordinator: a database that the disk does not take says what to look at") {
  const TemporaryFolder dir;
  coordinator::Store store(dir / "state", {.federation = "f", .coordinator = {1}});
  const FailingFiles files(EIO, 0, 1'000'000);
  CHECK_THROWS_WITH_AS(store.save_evaluation({.version = 0, .client = "evaluator", .metrics = {}}),
                       doctest::Contains("; check the disk, and that the folder is there"),
                       core::IoError);
}

TEST_CASE("coordinator: figures that a full disk refused are asked for again after a pause") {
  core::init_log(core::LogLevel::Off);
  const TemporaryFolder dir;
  Federation federation(dir.path(), 1, 1, /*evaluator=*/true);
  federation.start();
  federation.hello("evaluator");
  const auto answer = [&] {
    REQUIRE(federation.next<wire::EvaluateTask>("evaluator").has_value());
    federation.client("evaluator").send(federation.evaluation(0, {{"loss", 1.0}}));
    federation.settle();
  };
  {
    const FailingFiles files(ENOSPC, 0, 1'000'000);
    for (const auto pause : {1s, 2s, 4s}) {
      answer();
      federation.clock().advance(pause - 1ms);
      federation.settle();
      CHECK_FALSE(federation.next<wire::EvaluateTask>("evaluator").has_value());
      federation.clock().advance(1ms);
      federation.settle();
    }
  }
  answer();
  CHECK(federation.coordinator().report().before->at("loss") == 1.0);
}

TEST_CASE("coordinator: a state folder that is moved away or replaced ends it, with one reason") {
  const TemporaryFolder dir;
  Federation federation(dir.path(), 1, 1);
  federation.start();
  const auto refused = [&] {
    CHECK_THROWS_WITH_AS(federation.coordinator().step(0ms),
                         doctest::Contains("state: was moved or removed while the coordinator ran"),
                         core::IoError);
  };
  fs::rename(dir / "state", dir / "moved");
  refused();
  fs::copy(dir / "moved", dir / "state", fs::copy_options::recursive);
  refused();
  federation.crash();
  fs::remove_all(dir / "state");
  fs::rename(dir / "moved", dir / "state");
  federation.start();
  federation.settle();
}

TEST_CASE("coordinator: what was on its way when the disk refused an upload is no offence") {
  core::init_log(core::LogLevel::Off);
  const TemporaryFolder dir;
  Federation federation(dir.path(), 1, 1);
  federation.layout().modules = {{"layer.0.query", {300'000, 8}}};
  federation.start();
  federation.hello("client-1");
  const auto task = federation.next<wire::Task>("client-1").value();
  const auto plan = wire::decode_plan(task.plan.bytes);
  const core::Bytes payload = tensors::to_bytes(small_update(4, 0.25, federation.layout()));
  const auto offer = [&](const wire::Task& asked) {
    const auto manifest =
        federation.manifest("client-1", payload, wire::decode_plan(asked.plan.bytes).value());
    return federation.offer("client-1", manifest, asked);
  };
  federation.client("client-1").send(offer(task));
  federation.settle();
  std::vector<wire::Want> wants;
  while (auto want = federation.next<wire::Want>("client-1")) wants.push_back(*want);
  REQUIRE(wants.size() == 4);  // of five
  {
    const FailingFiles files(ENOSPC, 0, 1'000'000);
    federation.client("client-1").send(Federation::chunk(wants[0], payload));
    federation.settle();
    CHECK(federation.next<wire::Verdict>("client-1")->refusal == core::Refusal::LocalFailure);
  }
  CHECK_FALSE(federation.next<wire::Task>("client-1").has_value());  // it would be full still
  federation.clock().advance(2s);
  federation.settle();
  const auto again = federation.next<wire::Task>("client-1");
  REQUIRE(again.has_value());
  federation.client("client-1").send(offer(*again));
  for (std::size_t i = 1; i < wants.size(); ++i) {  // of the first transfer
    federation.client("client-1").send(Federation::chunk(wants[i], payload));
  }
  const auto verdict = federation.upload("client-1", offer(*again), payload);
  REQUIRE(verdict.has_value());
  CHECK(verdict->accepted);
}

TEST_CASE("coordinator: a version that cannot be read for a while is sent when it can") {
  core::init_log(core::LogLevel::Off);
  const TemporaryFolder dir;
  Federation federation(dir.path(), 1, 1);
  federation.start();
  auto& store = federation.coordinator().store();
  const auto version = wire::decode_version(store.versions(0, 1).front().bytes).value();
  {
    const FailingFiles files(EIO, 0, 1'000'000);
    federation.client("client-1")
        .send(wire::Want{.blob = version.payload, .offset = 0, .length = version.payload_bytes});
    federation.settle();
    CHECK_FALSE(federation.next<wire::Chunk>("client-1").has_value());
  }
  federation.clock().advance(1s);
  federation.settle();
  CHECK(federation.next<wire::Chunk>("client-1").has_value());
}

TEST_CASE("coordinator: a version that is damaged on the disk is sent once it is restored") {
  core::init_log(core::LogLevel::Off);
  const TemporaryFolder dir;
  Federation federation(dir.path(), 1, 1);
  federation.start();
  auto& store = federation.coordinator().store();
  const auto version = wire::decode_version(store.versions(0, 1).front().bytes).value();
  const fs::path file = store.blobs().path(version.payload);
  const core::Bytes whole = core::read_file(file, 1 << 20);
  const auto fetched = [&] {
    federation.clock().advance(1s);
    federation.settle();
    while (const auto message = federation.client("client-1").receive(0ms)) {
      CHECK_FALSE(std::holds_alternative<wire::Refused>(**message));
      if (std::holds_alternative<wire::Chunk>(**message)) return true;
    }
    return false;
  };
  for (const bool is_missing : {false, true}) {
    core::Bytes damaged = whole;
    damaged.back() ^= 1;
    core::write_file_atomic(file, damaged);
    if (is_missing) fs::remove(file);
    federation.client("client-1")
        .send(wire::Want{.blob = version.payload, .offset = 0, .length = version.payload_bytes});
    CHECK_FALSE(fetched());
    core::write_file_atomic(file, whole);
    CHECK(fetched());
  }
}

TEST_CASE("coordinator: events that cannot be recorded are no reason to stop") {
  struct Broken final : coordinator::Observer {
    void on_accepted(const wire::UpdateManifest&, double) override {
      throw core::IoError("metrics.jsonl: cannot be written");
    }
  };
  core::init_log(core::LogLevel::Off);
  const TemporaryFolder dir;
  Federation federation(dir.path(), 1, 1);
  Broken broken;
  federation.start({&broken});
  federation.hello("client-1");
  run_to_the_end(federation, {"client-1"});
  CHECK(federation.coordinator().report().rounds.size() == 1);
}
