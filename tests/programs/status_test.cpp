// drystone status on real processes: while a coordinator runs, when it was killed, when it is done.

#include <chrono>
#include <thread>

#include <doctest/doctest.h>

#include "tests/programs/deployment.h"

using namespace drystone;
using test::Deployment;
using test::Process;
using test::TinyFederation;
namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

std::string status(const TinyFederation& tiny, const fs::path& folder,
                   const std::vector<std::string>& more = {}) {
  const fs::path log = tiny.path() / "status.log";
  fs::remove(log);
  std::vector<std::string> words = {"status", folder};
  words.insert(words.end(), more.begin(), more.end());
  Process process("drystone", words, log);
  CHECK_MESSAGE(process.wait() == 0, process.output());
  return process.output();
}

/// The snapshot, once it is as wanted.
template <typename Wanted>
Json await(const TinyFederation& tiny, const fs::path& folder, const Wanted& is_wanted) {
  Json last;
  for (int tries = 0; tries < 100; ++tries) {
    last = Json::parse(status(tiny, folder, {"--json"}));
    if (is_wanted(last)) return last;
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  FAIL("never came to it: ", last.dump());
  return last;
}

Json client(const Json& status, const std::string& name) {
  for (const Json& found : status.at("clients")) {
    if (found.at("name") == name) return found;
  }
  return {};
}

}  // namespace

TEST_CASE("programs: status of a federation that waits, was killed, and is done") {
  const TinyFederation tiny("[[clients]]\ncount = 3\nrank = 2\n");
  const Deployment deployment(tiny, {"--set", "federation.quorum=3"});
  const fs::path state = deployment.run() / "state";
  Process coordinator = deployment.start_coordinator();
  REQUIRE_MESSAGE(coordinator.says("listening"), coordinator.output());
  Process first = deployment.start_client("client-1");
  const Json waiting = await(tiny, state, [](const Json& now) {
    return now.at("is_live") && client(now, "client-1").at("state") == "present";
  });
  CHECK(waiting.at("phase") == "gathering");
  CHECK(waiting.at("waits_for").get<std::string>().starts_with("a quorum: 1 of 3"));
  CHECK(client(waiting, "client-2").at("state") == "absent");
  const std::string text = status(tiny, deployment.run());
  CHECK_MESSAGE(text.find("the coordinator runs\n") != std::string::npos, text);
  CHECK(text.find("tiny: round 1 of 2, gathering since ") == 0);
  CHECK(text.find("client-1   present") != std::string::npos);

  coordinator.kill();
  const std::string killed = status(tiny, state);
  CHECK_MESSAGE(killed.find("no coordinator has it open") != std::string::npos, killed);
  CHECK(killed.find("tiny: round 1 of 2, stopped") == 0);

  Process again = deployment.start_coordinator();
  std::vector<Process> others;
  for (const char* name : {"client-2", "client-3", "evaluator"}) {
    others.push_back(deployment.start_client(name));
  }
  REQUIRE_MESSAGE(again.wait() == 0, again.output());
  const Json done = Json::parse(status(tiny, state, {"--json"}));
  CHECK(done.at("phase") == "done");
  CHECK(done.at("version") == 2);
  CHECK(done.at("is_open") == false);
  CHECK(status(tiny, state).find("tiny: finished with version 2") == 0);
}

TEST_CASE("programs: status of a simulation, which keeps no snapshot, and of what is no state") {
  const TinyFederation tiny;
  Process simulate("drystone", {"simulate", tiny.config_file()}, tiny.path() / "simulate.log");
  REQUIRE(simulate.wait() == 0);
  const std::string text = status(tiny, tiny.path() / "run");
  CHECK_MESSAGE(text.find("tiny: finished with version 2") == 0, text);
  Process wrong("drystone", {"status", tiny.path() / "model"}, tiny.path() / "wrong.log");
  CHECK(wrong.wait() == 2);
  CHECK(wrong.output().find("no coordinator's state") != std::string::npos);
}

TEST_CASE(
    "programs: a client that cannot take part is told of at once, by name, not after a minute") {
  const TinyFederation tiny("[[clients]]\ncount = 3\nrank = 2\n");
  const Deployment deployment(
      tiny, {"--set", "federation.quorum=3", "--set", "federation.deadline=5min"});
  Process coordinator = deployment.start_coordinator();
  Process odd = deployment.start_client("client-1", {"--set", "training.alpha=64"});
  Process second = deployment.start_client("client-2");
  Process third = deployment.start_client("client-3");
  CHECK(coordinator.wait(std::chrono::seconds(60)) == 1);
  const std::string said = coordinator.output();
  CHECK_MESSAGE(said.find("quorum is 3, which it can no longer reach; client-1: settings-differ; "
                          "mend these clients, then start again") != std::string::npos,
                said);
  const std::string text = status(tiny, deployment.run());
  CHECK_MESSAGE(text.find("tiny: failed in round 1 of 2") == 0, text);
  CHECK(text.find("client-1: settings-differ") != std::string::npos);
}
