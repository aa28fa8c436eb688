#include "coordinator/status.h"

#include <doctest/doctest.h>

#include "coordinator/state_folder.h"
#include "coordinator/state_lock.h"
#include "coordinator/status_keeper.h"
#include "core/error.h"
#include "tests/coordinator/harness.h"

using namespace drystone;
namespace fs = std::filesystem;
using namespace std::chrono_literals;
using coordinator::ClientStatus;
using coordinator::Status;
using coordinator::StatusKeeper;

namespace {

ClientStatus client(const Status& status, const std::string& name) {
  for (const ClientStatus& found : status.clients) {
    if (found.name == name) return found;
  }
  FAIL("no such client: ", name);
  return {};
}

/// A federation of four with a quorum of 3, and its keeper.
struct Watched {
  explicit Watched(const test::TemporaryFolder& dir) : federation(dir.path(), 4) {
    federation.config().federation.quorum = 3;
    keeper = std::make_unique<StatusKeeper>(federation.config(), dir.path() / "state",
                                            federation.clock());
    federation.start({keeper.get()});
  }
  Status now() { return keeper->status(federation.coordinator()); }

  test::Federation federation;
  std::unique_ptr<StatusKeeper> keeper;
};

const std::vector<std::string> kAll = {"client-1", "client-2", "client-3", "client-4"};

}  // namespace

TEST_CASE("status: says who is there while it gathers, and what is missing to a quorum") {
  const test::TemporaryFolder dir;
  Watched watched(dir);
  watched.federation.hello("client-2");
  const Status status = watched.now();
  CHECK(status.phase == "gathering");
  CHECK(status.round == 1);
  CHECK(status.rounds == 2);
  CHECK(client(status, "client-2").state == "present");
  CHECK(client(status, "client-2").device == "cpu");
  CHECK(client(status, "client-1").state == "absent");
  CHECK(coordinator::waits_for(status) ==
        "a quorum: 1 of 3 clients are there, missing are client-1 (absent), client-3 (absent), "
        "client-4 (absent)");
}

TEST_CASE(
    "status: says who trains, who is done, who was refused and why, and until when it waits") {
  const test::TemporaryFolder dir;
  Watched watched(dir);
  test::Federation& federation = watched.federation;
  for (const std::string& name : kAll) federation.hello(name);
  federation.clock().advance(5s);
  const auto task = federation.next<wire::Task>("client-1");
  REQUIRE(task.has_value());
  REQUIRE(federation.take_part("client-1", *task, 2, 0.1)->accepted);
  federation.client("client-2")
      .send(wire::Progress{.round = 1, .step = 4, .num_steps = 10, .loss = 1.5});
  federation.client("client-3")
      .send(wire::Decline{1, 0, core::Refusal::SettingsDiffer, "here rank = 2"});
  federation.settle();
  const Status status = watched.now();
  CHECK(status.phase == "collecting");
  CHECK(status.asked == 4);
  CHECK(status.accepted == 1);
  CHECK(status.quorum == 3);
  REQUIRE(status.deadline.has_value());
  CHECK(*status.deadline - status.since == doctest::Approx(60.0).epsilon(0.02));
  CHECK(client(status, "client-1").state == "accepted");
  CHECK(client(status, "client-2").state == "training");
  CHECK(client(status, "client-2").step == 4);
  CHECK(client(status, "client-3").state == "refused");
  CHECK(client(status, "client-3").reason == "settings-differ: here rank = 2");
  CHECK(client(status, "client-4").state == "asked");
  CHECK(coordinator::waits_for(status) == "client-2 (training, step 4 of 10), client-4 (asked)");
}

TEST_CASE("status: who was silent is named, with the round that it rests until") {
  const test::TemporaryFolder dir;
  Watched watched(dir);
  test::Federation& federation = watched.federation;
  for (const std::string& name : kAll) federation.hello(name);
  for (const std::string name : {"client-1", "client-2", "client-3"}) {
    REQUIRE(federation.take_part(name, *federation.next<wire::Task>(name), 2, 0.1)->accepted);
  }
  federation.clock().advance(61s);
  federation.settle();
  CHECK(client(watched.now(), "client-4").state == "silent");
  federation.hello("client-4");
  CHECK(client(watched.now(), "client-4").reason.starts_with("is back; gave no answer"));
  CHECK(watched.now().version == 1);
}

TEST_CASE("status: a quorum that is out of reach is its reason at once, and the failure's") {
  const test::TemporaryFolder dir;
  Watched watched(dir);
  test::Federation& federation = watched.federation;
  for (const std::string& name : kAll) federation.hello(name);
  for (const char* name : {"client-1", "client-3"}) {
    federation.client(name).send(wire::Decline{1, 0, core::Refusal::TrainingFailed, "no memory"});
    federation.settle();
  }
  const Status status = watched.now();
  CHECK(status.phase == "failed");
  CHECK(status.reason.find("can no longer reach; client-1: training-failed") != std::string::npos);
  CHECK(coordinator::waits_for(status).empty());
}

TEST_CASE("status: the file follows, is replaced whole, and is not written for nothing") {
  const test::TemporaryFolder dir;
  Watched watched(dir);
  test::Federation& federation = watched.federation;
  const fs::path state = dir.path() / "state";
  const auto follow = [&](std::chrono::milliseconds later) {
    federation.clock().advance(later);
    watched.keeper->follow(federation.coordinator());
    return coordinator::read_status(state);
  };
  federation.hello("client-1");
  const auto first = follow(0ms);
  REQUIRE(first.has_value());
  CHECK(client(*first, "client-1").state == "present");
  fs::remove(state / coordinator::kStatusFile);
  CHECK_FALSE(follow(600ms).has_value());  // nothing new
  federation.hello("client-2");
  CHECK_FALSE(follow(100ms).has_value());  // too soon
  const auto second = follow(600ms);
  REQUIRE(second.has_value());
  CHECK(client(*second, "client-2").state == "present");
  fs::remove(state / coordinator::kStatusFile);
  CHECK(follow(10s).has_value());  // a sign of life
  for (const auto& entry : fs::directory_iterator(state)) {
    CHECK(entry.path().string().find(".tmp-") == std::string::npos);
  }
  fs::remove(state / coordinator::kStatusFile);
  fs::create_directory(state / coordinator::kStatusFile);  // cannot be replaced: no reason to stop
  federation.hello("client-3");
  federation.clock().advance(1s);
  watched.keeper->follow(federation.coordinator());
}

TEST_CASE("status: read beside the coordinator that has the folder open, and after it") {
  const test::TemporaryFolder dir;
  Watched watched(dir);
  test::Federation& federation = watched.federation;
  const fs::path state = dir.path() / "state";
  for (const std::string& name : kAll) federation.hello(name);
  watched.keeper->follow(federation.coordinator());
  CHECK(coordinator::is_in_use(state));
  auto found = coordinator::status_of(state);
  CHECK(found.is_open);
  CHECK(found.is_live);
  CHECK(found.status.phase == "collecting");
  CHECK(found.status.clients.size() == 4);
  federation.crash();
  CHECK_FALSE(coordinator::is_in_use(state));
  found = coordinator::status_of(state);
  CHECK_FALSE(found.is_open);
  CHECK_FALSE(found.is_live);
  CHECK(found.status.phase == "stopped");
  CHECK(found.status.name == "test");
  CHECK(found.status.asked == 4);
  CHECK(client(found.status, "client-1").state == "asked");
  fs::remove(state / coordinator::kStatusFile);  // a simulation keeps none
  CHECK(coordinator::status_of(state).status.asked == 4);
  CHECK_THROWS_AS(coordinator::status_of(dir.path()), core::ConfigError);
}

TEST_CASE("status: JSON comes back equal; what is no snapshot is an error with a remedy") {
  const Status status{.name = "news",
                      .federation = std::string(64, 'a'),
                      .phase = "collecting",
                      .since = 1.0,
                      .written = 2.0,
                      .deadline = 3.0,
                      .version = 4,
                      .rounds = 9,
                      .round = 5,
                      .attempt = 1,
                      .asked = 2,
                      .accepted = 1,
                      .quorum = 2,
                      .reason = "a \"b\"",
                      .clients = {{.name = "client-1",
                                   .role = "train",
                                   .state = "training",
                                   .since = 1.0,
                                   .heard = 2.0,
                                   .step = 3,
                                   .num_steps = 4,
                                   .loss = 0.5,
                                   .device = "cuda:0",
                                   .num_examples = 12,
                                   .reason = "timeout"}}};
  CHECK(coordinator::status_from_json(coordinator::to_json(status)) == status);
  const std::string text = coordinator::to_json(status);
  for (std::size_t cut = 0; cut < text.size(); cut += 7) {
    CHECK_THROWS_AS(coordinator::status_from_json(text.substr(0, cut)), core::IoError);
  }
  CHECK_THROWS_AS(coordinator::status_from_json("[]"), core::IoError);
  CHECK_THROWS_AS(coordinator::status_from_json(R"({"name": 3})"), core::IoError);
}
