// What operators and power cuts do to a federation's folders, on real processes.

#include <chrono>
#include <thread>

#include <doctest/doctest.h>

#include "core/seed.h"
#include "crypto/roster.h"
#include "tests/programs/deployment.h"

using namespace drystone;
using test::Deployment;
using test::Process;
using test::TinyFederation;
namespace fs = std::filesystem;

namespace {

int verify(const TinyFederation& tiny, const fs::path& folder, std::string& output) {
  const fs::path log = tiny.path() / "verify.log";
  fs::remove(log);
  Process inspect("drystone", {"inspect", folder, "--verify"}, log);
  const int status = inspect.wait();
  output = inspect.output();
  return status;
}

void take_out(const Deployment& deployment, const std::string& client) {
  const fs::path file = deployment.parties() / "coordinator" / "roster.toml";
  crypto::Roster roster = crypto::load_roster(file);
  roster.clients.erase(client);
  crypto::save_roster(roster, file);
}

void renew_key(const Deployment& deployment, const std::string& client) {
  const fs::path keys = deployment.parties() / client / "keys";
  fs::remove(keys / (client + ".key"));
  fs::remove(keys / (client + ".pub"));
  const crypto::Identity fresh = crypto::generate_identity(client);
  crypto::save_identity(fresh, keys);
  const fs::path file = deployment.parties() / "coordinator" / "roster.toml";
  crypto::Roster roster = crypto::load_roster(file);
  roster.clients.at(client).identity = fresh.public_part;
  crypto::save_roster(roster, file);
}

/// Kills the coordinator at random moments, edits its roster in between, lets it end.
void live_through(std::uint64_t seed) {
  CAPTURE(seed);
  const TinyFederation tiny("[[clients]]\ncount = 3\nrank = 2\n");
  const Deployment deployment(tiny, {"--set", "federation.rounds=4"});
  const fs::path state = deployment.run() / "state";
  core::SplitMix64 random({seed, 0, "", "kills"});
  std::map<std::string, Process> clients;
  for (const char* name : {"client-1", "client-2", "client-3", "evaluator"}) {
    clients.emplace(name, deployment.start_client(name));
  }
  constexpr int kKills = 8;
  std::string output;
  for (int kill = 0; kill < kKills; ++kill) {
    CAPTURE(kill);
    {
      Process coordinator = deployment.start_coordinator();
      std::this_thread::sleep_for(std::chrono::milliseconds(200 + random.below(1500)));
      coordinator.kill();
    }
    if (fs::exists(state / "state.sqlite")) {
      const int status = verify(tiny, state, output);
      CHECK_MESSAGE(status == 0, output);
    }
    if (kill == 3) {
      clients.erase("client-3");
      take_out(deployment, "client-3");
    } else if (kill == 5) {
      clients.erase("client-1");
      renew_key(deployment, "client-1");
      clients.emplace("client-1", deployment.start_client("client-1"));
    }
  }
  Process coordinator = deployment.start_coordinator();
  REQUIRE_MESSAGE(coordinator.wait() == 0, coordinator.output());
  for (auto& [name, client] : clients) CHECK_MESSAGE(client.wait() == 0, client.output());
  const int status = verify(tiny, deployment.run(), output);
  CHECK_MESSAGE(status == 0, output);
  CHECK(output.find("version 4: signatures and chain hold") != std::string::npos);
  CHECK(output.find("not recomputed") == std::string::npos);
}

}  // namespace

TEST_CASE("programs: rosters edited and keys renewed between kills; verify says what is true") {
  const char* const given = std::getenv("DRYSTONE_KILL_SEEDS");
  const std::uint64_t seeds = given == nullptr ? 1 : std::strtoull(given, nullptr, 10);
  for (std::uint64_t seed = 0; seed < seeds; ++seed) live_through(seed);
}

TEST_CASE("programs: inspect reads a federation while it runs") {
  const TinyFederation tiny;
  const Deployment deployment(tiny);
  Process coordinator = deployment.start_coordinator();
  Process client = deployment.start_client("client-1");
  REQUIRE_MESSAGE(coordinator.says("listening"), coordinator.output());
  for (const fs::path& folder : {deployment.run(), deployment.run() / "state"}) {
    Process inspect("drystone", {"inspect", folder}, tiny.path() / "inspect.log");
    CHECK_MESSAGE(inspect.wait() == 0, inspect.output());
    CHECK(inspect.output().find("version    0") != std::string::npos);
  }
  std::string output;
  const int status = verify(tiny, deployment.run() / "state", output);
  CHECK_MESSAGE(status == 0, output);
  coordinator.signal(SIGHUP);
  CHECK(coordinator.wait() == 129);
}

TEST_CASE("programs: a finished federation is given more rounds, and clients come back") {
  const TinyFederation tiny("[[clients]]\ncount = 2\nrank = 2\n");
  const Deployment deployment(tiny, {"--set", "federation.rounds=1"});
  const std::vector<std::string> more = {"--set", "federation.rounds=3"};
  const auto live = [&](const std::vector<std::string>& words) {
    Process coordinator = deployment.start_coordinator(words);
    std::vector<Process> clients;
    for (const char* name : {"client-1", "client-2", "evaluator"}) {
      clients.push_back(deployment.start_client(name, words));
    }
    REQUIRE_MESSAGE(coordinator.wait() == 0, coordinator.output());
    for (Process& client : clients) CHECK_MESSAGE(client.wait() == 0, client.output());
  };
  live({});
  const std::string first = test::head_of(deployment.run());
  live(more);
  CHECK(test::head_of(deployment.run()) != first);
  std::string output;
  CHECK_MESSAGE(verify(tiny, deployment.run(), output) == 0, output);
  CHECK(output.find("version 3: signatures and chain hold") != std::string::npos);

  // As a simulation that is raised in the same way; one that had three rounds from the start has
  // another hash.
  const fs::path run = tiny.path() / "run";
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"--set", "federation.rounds=1"},
        std::vector<std::string>{"--resume", "--set", "federation.rounds=3"}}) {
    std::vector<std::string> all = {"simulate", tiny.config_file(), "--out", run};
    all.insert(all.end(), words.begin(), words.end());
    Process simulate("drystone", all, tiny.path() / "simulate.log");
    REQUIRE_MESSAGE(simulate.wait() == 0, simulate.output());
  }
  CHECK(test::head_of(run) == test::head_of(deployment.run()));
  CHECK_MESSAGE(verify(tiny, run, output) == 0, output);

  Process fewer("drystone-coordinator", {deployment.parties() / "coordinator" / "coordinator.toml"},
                tiny.path() / "fewer.log");
  CHECK(fewer.wait() == 2);
  CHECK(fewer.output().find("is 1, but 3 rounds are done") != std::string::npos);
}

TEST_CASE("programs: state without its database is refused until --start-over") {
  const TinyFederation tiny;
  const Deployment deployment(tiny);
  Process first = deployment.start_coordinator();
  REQUIRE_MESSAGE(first.says("listening"), first.output());
  first.signal(SIGTERM);
  CHECK(first.wait() == 143);
  fs::remove(deployment.run() / "state" / "state.sqlite");
  Process refused = deployment.start_coordinator();
  CHECK(refused.wait() == 2);
  CHECK(refused.output().find("--start-over") != std::string::npos);
  CHECK_FALSE(fs::is_empty(deployment.run() / "state" / "blobs"));
  Process again("drystone-coordinator",
                {deployment.parties() / "coordinator" / "coordinator.toml", "--start-over"},
                tiny.path() / "again.log");
  CHECK_MESSAGE(again.says("listening"), again.output());
}

TEST_CASE("programs: a refused configuration leaves no folder behind") {
  const TinyFederation tiny;
  const Deployment deployment(tiny);
  fs::remove(deployment.parties() / "coordinator" / "roster.toml");
  Process coordinator = deployment.start_coordinator();
  CHECK(coordinator.wait() != 0);
  CHECK_FALSE(fs::exists(deployment.run()));
  const fs::path out = tiny.path() / "runs" / "none";
  Process simulate("drystone",
                   {"simulate", tiny.config_file(), "--out", out, "--set", "model.path=\"none\""},
                   tiny.path() / "simulate.log");
  CHECK(simulate.wait() != 0);
  CHECK_FALSE(fs::exists(tiny.path() / "runs"));
  Process client("drystone-client",
                 {deployment.parties() / "client-1" / "client.toml", "--set", "model.path=\"none\"",
                  "--set", "output.dir=\"" + out.string() + "\""},
                 tiny.path() / "client.log");
  CHECK(client.wait() != 0);
  CHECK_FALSE(fs::exists(tiny.path() / "runs"));
}
