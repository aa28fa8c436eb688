// The deployed programs as real processes over CURVE on loopback: equal to the simulator bit for
// bit, and to themselves when any of them is killed.

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "tests/programs/deployment.h"

using namespace drystone;
using test::Deployment;
using test::head_of;
using test::Process;
using test::TinyFederation;
namespace fs = std::filesystem;

namespace {

std::string text_of(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

/// The files and folders under `folder` that others than their owner may touch.
std::vector<fs::path> open_to_others(const fs::path& folder) {
  constexpr auto kOthers = fs::perms::group_all | fs::perms::others_all;
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    const bool is_public_key = entry.path().extension() == ".pub";
    if (!is_public_key && (entry.status().permissions() & kOthers) != fs::perms::none) {
      found.push_back(entry.path());
    }
  }
  return found;
}

const std::vector<std::string> kParties = {"client-1", "client-2", "client-3", "client-4",
                                           "evaluator"};

/// global/ of the same bytes, whoever was killed on the way.
void check_same_global(const fs::path& run, const fs::path& simulated) {
  for (const char* file : {"adapter_model.safetensors", "head.safetensors"}) {
    CAPTURE(file);
    const auto content = [&](const fs::path& folder) {
      std::ostringstream text;
      text << std::ifstream(folder / "global" / file, std::ios::binary).rdbuf();
      return text.str();
    };
    CHECK_FALSE(content(run).empty());
    CHECK(content(run) == content(simulated));
  }
}

std::string simulated_head(const TinyFederation& tiny,
                           const std::vector<std::string>& overrides = {}) {
  std::vector<std::string> words = {"simulate", tiny.config_file(), "--device", "cpu"};
  words.insert(words.end(), overrides.begin(), overrides.end());
  Process simulate("drystone", words, tiny.path() / "simulate.log");
  REQUIRE_MESSAGE(simulate.wait() == 0, simulate.output());
  return head_of(tiny.path() / "run");
}

/// @param overrides  further words of the command lines
void check_deployed_as_simulated(const TinyFederation& tiny,
                                 const std::vector<std::string>& overrides = {}) {
  const Deployment deployment(tiny, overrides);
  Process coordinator = deployment.start_coordinator();
  std::vector<Process> clients;
  for (const std::string& name : kParties) clients.push_back(deployment.start_client(name));
  REQUIRE_MESSAGE(coordinator.wait() == 0, coordinator.output());
  for (Process& client : clients) CHECK_MESSAGE(client.wait() == 0, client.output());
  CHECK(coordinator.output().find("\nin " + deployment.run().string() + "\n") != std::string::npos);
  CHECK(open_to_others(deployment.parties()) == std::vector<fs::path>());
  CHECK(head_of(deployment.run()) == simulated_head(tiny, overrides));
  Process verify("drystone", {"inspect", deployment.run(), "--verify"}, tiny.path() / "verify.log");
  CHECK_MESSAGE(verify.wait() == 0, verify.output());
  CHECK(verify.output().find("recomputed bit for bit") != std::string::npos);
}

}  // namespace

TEST_CASE("programs: deployed and simulated give the same head, and verify holds") {
  check_deployed_as_simulated(TinyFederation());
}

TEST_CASE("programs: so does one that goes on from an adapter of more modules than it trains") {
  const TinyFederation before;
  simulated_head(before);
  check_deployed_as_simulated(TinyFederation(),
                              {"--set", "model.adapter=" + (before.path() / "run/global").string(),
                               "--set", "training.target_modules=[\"query\"]"});
}

TEST_CASE("programs: so does an ensemble of two clusters, beside a client of the shared base") {
  const std::string cluster =
      "[[clients]]\nmethod = \"lora-ensemble\"\nrank = 2\n"
      "options = {members = 2, assign = \"cluster\", member = ";
  check_deployed_as_simulated(TinyFederation("[[clients]]\nrank = 3\n" + cluster + "0}\n" +
                                             cluster + "1}\n" + cluster + "1}\n"));
}

TEST_CASE("programs: and clients on a base in 4 and in 8 bits, which the report names") {
  const TinyFederation tiny(
      "[[clients]]\nrank = 3\ncount = 2\n[[clients]]\nquantization = \"nf4\"\n"
      "[[clients]]\nquantization = \"int8\"\n");
  check_deployed_as_simulated(tiny);
  const auto report = nlohmann::json::parse(
      std::ifstream(tiny.path() / "parties" / "coordinator" / "run" / "report.json"));
  const nlohmann::json& round = report.at("rounds").at(0);
  CHECK(round.at("bases") == nlohmann::json{{"int8", 1}, {"nf4", 1}, {"none", 2}});
  CHECK(round.at("exactness").get<std::string>().find("each relative to its own base") !=
        std::string::npos);
}

TEST_CASE("programs: a client that diverges tells why, zeros are warned of, the round goes on") {
  const TinyFederation tiny(
      "[[clients]]\nrank = 4\ncount = 2\n[[clients]]\nlearning_rate = 1e-30\n"
      "[[clients]]\nlearning_rate = 1e30\n");
  std::string config = text_of(tiny.config_file());
  config.insert(config.find("rounds ="), "quorum = 3\n");
  std::ofstream(tiny.config_file()) << config;
  check_deployed_as_simulated(tiny);
  for (const char* log : {"coordinator.log", "client-4.log", "simulate.log"}) {
    CAPTURE(log);
    CHECK(text_of(tiny.path() / log).find("lower training.learning_rate") != std::string::npos);
  }
  CHECK(text_of(tiny.path() / "client-3.log").find("nothing learnt") != std::string::npos);
  CHECK(text_of(tiny.path() / "client-1.log").find("nothing learnt") == std::string::npos);
  const std::string coordinator = text_of(tiny.path() / "coordinator.log");
  CHECK(coordinator.find("nothing but zeros") != std::string::npos);
  CHECK(coordinator.find("zero updates") != std::string::npos);
  const auto report = nlohmann::json::parse(
      std::ifstream(tiny.path() / "parties" / "coordinator" / "run" / "report.json"));
  for (const nlohmann::json& round : report.at("rounds")) {
    CHECK(round.at("accepted") == 3);
    CHECK(round.at("rejected") == nlohmann::json{{"training-failed", 1}});
    CHECK(round.at("zero_updates") == nlohmann::json{"client-3"});
  }
}

TEST_CASE("programs: a coordinator and a client killed with -9 in the middle change nothing") {
  // Updates in both forms: dense factors, and indices.
  const TinyFederation tiny(
      "[[clients]]\nrank = 4\n[[clients]]\nmethod = \"sbora-fa\"\ncount = 2\n"
      "[[clients]]\nrank = 1\nmethod = \"sbora-fb\"\n");
  const Deployment deployment(tiny);
  std::vector<Process> clients;
  for (const std::string& name : kParties) clients.push_back(deployment.start_client(name));
  {
    Process first = deployment.start_coordinator();
    REQUIRE_MESSAGE(first.says("update accepted"), first.output());
    first.kill();
  }
  clients.front().kill();
  clients.front() = deployment.start_client(kParties.front());
  Process second = deployment.start_coordinator();
  REQUIRE_MESSAGE(second.wait() == 0, second.output());
  for (Process& client : clients) CHECK_MESSAGE(client.wait() == 0, client.output());
  CHECK(head_of(deployment.run()) == simulated_head(tiny));
  check_same_global(deployment.run(), tiny.path() / "run");
}

TEST_CASE("programs: a client started again after the end asks its coordinator before it ends") {
  const TinyFederation tiny("[[clients]]\nrank = 2\n");
  const Deployment deployment(tiny, {"--set", "federation.rounds=1"});
  {
    Process coordinator = deployment.start_coordinator();
    Process client = deployment.start_client("client-1");
    Process evaluator = deployment.start_client("evaluator");
    REQUIRE_MESSAGE(coordinator.wait() == 0, coordinator.output());
    REQUIRE_MESSAGE(client.wait() == 0, client.output());
  }
  const fs::path log = tiny.path() / "client-1.log";
  fs::remove(log);
  Process alone = deployment.start_client("client-1", {"--give-up-after", "1s"});
  CHECK(alone.wait() == 0);
  CHECK(alone.output().find("every version was followed before") != std::string::npos);

  const fs::path config = deployment.parties() / "coordinator" / "coordinator.toml";
  for (const auto& [seed, status] : std::map<std::string, int>{{"7", 0}, {"8", 1}}) {
    CAPTURE(seed);
    fs::remove(log);
    Process anew("drystone-coordinator",
                 {config, "--device", "cpu", "--start-over", "--set", "seed=" + seed},
                 tiny.path() / ("anew-" + seed + ".log"));
    REQUIRE_MESSAGE(anew.says("listening"), anew.output());
    Process again = deployment.start_client("client-1");
    CHECK_MESSAGE(again.wait() == status, again.output());
    CHECK((again.output().find("every version was followed before") != std::string::npos) ==
          (status == 0));
    CHECK((again.output().find("it runs federation") != std::string::npos) == (status == 1));
  }
}

TEST_CASE("programs: the coordinator listens where it was told to, and nowhere else") {
  const TinyFederation tiny;
  int number = 0;
  const auto bound = [&](const std::string& address) {
    const fs::path out = tiny.path() / ("parties-" + std::to_string(++number));
    Process provision("drystone",
                      {"provision", tiny.config_file(), "--out", out, "--address", address},
                      tiny.path() / "provision.log");
    REQUIRE_MESSAGE(provision.wait() == 0, provision.output());
    CHECK(open_to_others(out) == std::vector<fs::path>());
    return core::load_config(out / "coordinator" / "coordinator.toml").security.coordinator;
  };
  for (const std::string told : {"tcp://127.0.0.1:5570", "tcp://localhost:5570", "tcp://[::1]:5570",
                                 "tcp://192.0.2.7:5570"}) {
    CHECK(bound(told) == told);
  }
  CHECK(bound("tcp://server.example:5570") == "tcp://*:5570");  // which of its addresses it has?
  Process refused(
      "drystone",
      {"provision", tiny.config_file(), "--out", tiny.path() / "none", "--address", "server:5570"},
      tiny.path() / "refused.log");
  CHECK(refused.wait() == 2);
  CHECK_FALSE(fs::exists(tiny.path() / "none"));
}

TEST_CASE("programs: a client whose key is not in the roster is told so; the others go on") {
  const TinyFederation tiny;
  const Deployment deployment(tiny);
  const fs::path stranger = tiny.path() / "parties" / "stranger";
  fs::copy(deployment.parties() / "client-1", stranger, fs::copy_options::recursive);
  fs::remove(stranger / "keys" / "client-1.key");
  fs::remove(stranger / "keys" / "client-1.pub");
  Process keys("drystone", {"keys", "new", "client-1", "--out", stranger / "keys"},
               tiny.path() / "keys.log");
  REQUIRE_MESSAGE(keys.wait() == 0, keys.output());
  Process coordinator = deployment.start_coordinator();
  Process refused = deployment.start_client("stranger", {"--give-up-after", "4s"});
  CHECK(refused.wait() == 1);
  CHECK(refused.output().find("it refuses this client's key") != std::string::npos);
  CHECK(refused.output().find("gave up") != std::string::npos);
  std::vector<Process> clients;
  for (const std::string& name : kParties) clients.push_back(deployment.start_client(name));
  CHECK_MESSAGE(coordinator.wait() == 0, coordinator.output());
}

TEST_CASE("programs: SIGTERM saves the state, exits with 143, and --resume goes on") {
  const TinyFederation tiny;
  const std::string expected = simulated_head(tiny);
  const fs::path out = tiny.path() / "stopped";
  const std::vector<std::string> arguments = {"simulate", tiny.config_file(), "--out",
                                              out,        "--device",         "cpu"};
  Process stopped("drystone", arguments, tiny.path() / "stopped.log");
  REQUIRE_MESSAGE(stopped.says("update accepted"), stopped.output());
  stopped.signal(SIGTERM);
  const int status = stopped.wait();
  CHECK((status == 143 || status == 0));  // 0: it was already done
  Process again("drystone", arguments, tiny.path() / "again.log");
  CHECK(again.wait() == 2);
  CHECK(again.output().find("--resume") != std::string::npos);
  std::vector<std::string> resume = arguments;
  resume.emplace_back("--resume");
  Process resumed("drystone", resume, tiny.path() / "resumed.log");
  CHECK_MESSAGE(resumed.wait() == 0, resumed.output());
  CHECK(head_of(out) == expected);
}

TEST_CASE("programs: a client that reaches nobody says why, on the terminal and in its log") {
  const TinyFederation tiny;
  const Deployment deployment(tiny);
  Process alone = deployment.start_client("client-1", {"--give-up-after", "1s"});
  CHECK(alone.wait() == 1);
  const std::string reason = "no coordinator at tcp://127.0.0.1:";
  CHECK_MESSAGE(alone.output().find(reason) != std::string::npos, alone.output());
  CHECK(alone.output().find("(Connection refused)") != std::string::npos);
  std::ostringstream log;
  log << std::ifstream(deployment.parties() / "client-1" / "run" / "log.txt").rdbuf();
  CHECK(log.str().find("exit reason=") != std::string::npos);
  CHECK(log.str().find(reason) != std::string::npos);
}

TEST_CASE(
    "programs: a client whose settings differ declines, and says which; its own are allowed") {
  for (const bool is_allowed : {false, true}) {
    CAPTURE(is_allowed);
    const TinyFederation tiny;
    const Deployment deployment(tiny);
    if (is_allowed) {
      const fs::path roster = deployment.parties() / "coordinator" / "roster.toml";
      std::ostringstream text;
      text << std::ifstream(roster).rdbuf();
      std::string allowed = text.str();
      const std::string name = "name = \"client-1\"\n";
      allowed.insert(allowed.find(name) + name.size(), "settings = \"own\"\n");
      std::ofstream(roster) << allowed;
    }
    Process coordinator = deployment.start_coordinator();
    std::vector<Process> clients;
    clients.push_back(deployment.start_client("client-1", {"--set", "training.alpha=7"}));
    for (const std::string& name : kParties) {
      if (name != "client-1") clients.push_back(deployment.start_client(name));
    }
    if (is_allowed) {
      CHECK_MESSAGE(coordinator.wait() == 0, coordinator.output());
    } else {
      CHECK_MESSAGE(clients.front().says("training declined"), clients.front().output());
      CHECK(clients.front().says("here \\\"training.alpha = 7.0\\\""));
      CHECK(coordinator.says("settings-differ"));
    }
  }
}
