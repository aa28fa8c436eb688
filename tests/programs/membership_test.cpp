// Clients are added, revoked and renewed while a federation of real processes runs.

#include <doctest/doctest.h>

#include "core/files.h"
#include "tests/programs/deployment.h"

using namespace drystone;
using test::Deployment;
using test::Process;
using test::TinyFederation;
namespace fs = std::filesystem;

namespace {

struct WithoutEvaluator : TinyFederation {
  explicit WithoutEvaluator(const std::string& clients) : TinyFederation(clients) {
    std::string config = core::read_text_file(config_file(), 1 << 20);
    const std::string test = "test = \"test.jsonl\"\n";
    std::ofstream(config_file()) << config.erase(config.find(test), test.size());
  }
};

/// Three clients; every round needs everybody in the roster, so that it waits for whoever is in it
/// and not there.
struct Office {
  WithoutEvaluator tiny{"[[clients]]\nrank = 4\ncount = 3\n"};
  Deployment deployment{tiny,
                        {"--set", "federation.quorum=0", "--set", "federation.rounds=100", "--set",
                         "federation.deadline=\"10min\""}};
  int number = 0;

  fs::path folder(const std::string& client) const { return deployment.parties() / client; }

  /// `drystone keys WORDS`. @return what it says
  std::string keys(const std::vector<std::string>& words, int status = 0) {
    std::vector<std::string> all = {"keys"};
    all.insert(all.end(), words.begin(), words.end());
    Process process("drystone", all, tiny.path() / ("keys-" + std::to_string(++number) + ".log"));
    const int ended = process.wait();
    CHECK_MESSAGE(ended == status, process.output());
    return process.output();
  }
  /// One of the coordinator's side.
  std::string change(std::vector<std::string> words, int status = 0) {
    words.insert(words.end(), {"--config", folder("coordinator") / "coordinator.toml"});
    return keys(words, status);
  }

  /// A client's folder as another machine has it: the federation's files, and a key of its own.
  fs::path settle_in(const std::string& client) {
    const fs::path own = folder(client);
    fs::create_directories(own / "keys");
    for (const char* file : {"layout.json", "train.jsonl", "keys/coordinator.pub"}) {
      fs::copy_file(folder("client-1") / file, own / file);
    }
    std::string config = core::read_text_file(folder("client-1") / "client.toml", 1 << 20);
    const std::string identity = "keys/client-1";
    config.replace(config.find(identity), identity.size(), "keys/" + client);
    std::ofstream(own / "client.toml") << config;
    keys({"request", client, "--out", own / "keys"});
    return own / "keys" / (client + ".request");
  }
};

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("programs: clients are added, revoked and renewed while a federation runs") {
  Office office;
  const Deployment& deployment = office.deployment;
  const std::vector<std::string> requests = {office.settle_in("client-8"),
                                             office.settle_in("client-9")};
  Process coordinator = deployment.start_coordinator();
  Process first = deployment.start_client("client-1");
  Process second = deployment.start_client("client-2");
  Process third = deployment.start_client("client-3");
  REQUIRE_MESSAGE(coordinator.says("version published"), coordinator.output());

  // Two are let in while a round is open. One of them is not started, so the next round waits.
  third.signal(SIGSTOP);
  const std::string said = office.change({"approve", requests[0], requests[1]});
  third.signal(SIGCONT);
  CHECK(holds(said, "change 1: client-8 added"));
  CHECK(holds(said, "change 2: client-9 added"));
  REQUIRE_MESSAGE(coordinator.says("client-9 added"), coordinator.output());
  Process fourth = deployment.start_client("client-9");
  CHECK_MESSAGE(fourth.says("connecting"), fourth.output());

  // One is revoked; the coordinator is killed as soon as that is said.
  CHECK(holds(office.change({"revoke", "client-2"}), "change 3: client-2 revoked"));
  CHECK_MESSAGE(second.wait() == 1, second.output());
  CHECK_MESSAGE(holds(second.output(), "has ended this key (it was revoked)"), second.output());
  coordinator.kill();
  fs::remove(office.tiny.path() / "coordinator.log");
  coordinator = deployment.start_coordinator();
  fs::remove(office.tiny.path() / "client-2.log");
  Process again = deployment.start_client("client-2", {"--give-up-after", "5s"});
  CHECK(again.wait() == 1);
  CHECK_MESSAGE(holds(again.output(), "it refuses this client's key"), again.output());

  // One gets another key, and is told so on its connection.
  REQUIRE_MESSAGE(coordinator.says("joined client=client-3"), coordinator.output());
  const std::string config = office.folder("client-3") / "client.toml";
  office.keys({"renew", "--config", config});
  office.change({"approve", office.folder("client-3") / "keys/renewed/client-3.request"});
  CHECK_MESSAGE(third.wait() == 1, third.output());
  CHECK_MESSAGE(holds(third.output(), "drystone keys renew --use"), third.output());
  office.keys({"renew", "--use", "--config", config});
  third = deployment.start_client("client-3");

  // Whoever is waited for in vain is revoked: the others go on, to the end.
  office.change({"revoke", "client-8"});
  REQUIRE_MESSAGE(coordinator.wait() == 0, coordinator.output());
  for (Process* client : {&first, &third, &fourth}) {
    CHECK_MESSAGE(client->wait() == 0, client->output());
  }
  const std::string listed = office.change({"list"});
  CHECK(holds(listed, "change 5: client-8 revoked"));
  CHECK(holds(listed, "client-9  train  max_rank 4"));
  CHECK_FALSE(holds(listed, "client-2  train"));
  Process verify("drystone", {"inspect", deployment.run(), "--verify"},
                 office.tiny.path() / "verify.log");
  CHECK_MESSAGE(verify.wait() == 0, verify.output());
  CHECK(holds(verify.output(), "recomputed bit for bit"));
  const auto report = nlohmann::json::parse(std::ifstream(deployment.run() / "report.json"));
  CHECK(report.at("rounds").size() == 100);
  CHECK(report.at("rounds").back().at("accepted") == 3);
}

TEST_CASE("programs: what cannot be changed is said in one line, and changes nothing") {
  Office office;
  const fs::path request = office.settle_in("client-9");
  CHECK(holds(office.change({"revoke", "client-2"}, 2), "start drystone-coordinator once"));
  Process coordinator = office.deployment.start_coordinator();
  REQUIRE_MESSAGE(coordinator.says("listening"), coordinator.output());
  coordinator.signal(SIGTERM);
  coordinator.wait();

  CHECK(holds(office.change({"revoke", "nobody"}, 2), "is not in the roster"));
  CHECK(holds(office.change({"approve", office.folder("client-1") / "keys/client-1.pub"}, 2),
              "this is no request"));
  std::string edited = core::read_text_file(request, 1 << 20);
  edited.replace(edited.find("client-9"), 8, "client-7");
  std::ofstream(office.tiny.path() / "edited.request") << edited;
  CHECK(holds(office.change({"approve", office.tiny.path() / "edited.request"}, 2),
              "does not verify"));
  CHECK(holds(
      office.keys({"revoke", "client-2", "--config", office.folder("client-1") / "client.toml"}, 2),
      "not the coordinator's configuration"));
  // What was changed while nobody ran counts at the next start.
  CHECK(holds(office.change({"approve", request}), "counts as soon as the coordinator runs"));
  CHECK(holds(office.change({"approve", request}, 2), "with this very key"));
  Process again = office.deployment.start_coordinator();
  REQUIRE_MESSAGE(again.says("listening"), again.output());
  CHECK(holds(office.change({"list"}), "change 1: client-9 added"));
}
