// drystone preflight on real files and sockets: what is well, and each thing that goes wrong.

#include <doctest/doctest.h>

#include "crypto/identity.h"
#include "tests/programs/deployment.h"

using namespace drystone;
using test::Deployment;
using test::Process;
using test::TinyFederation;
namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

struct Looked {
  int status = 0;
  Json report;
  std::string text;

  /// The worst verdict of a check.
  std::string verdict(const std::string& what) const {
    std::string worst = "none";
    for (const Json& check : report.at("checks")) {
      if (check.at("what") != what) continue;
      const std::string verdict = check.at("verdict");
      if (verdict == "fail" || worst == "none" || (verdict == "warn" && worst == "ok")) {
        worst = verdict;
      }
    }
    return worst;
  }
  std::string said(const std::string& what) const {
    std::string all;
    for (const Json& check : report.at("checks")) {
      if (check.at("what") != what) continue;
      all += check.at("detail").get<std::string>() + "; " + check.at("remedy").get<std::string>() +
             "\n";
    }
    return all;
  }
};

Looked look(const TinyFederation& tiny, const fs::path& config,
            const std::vector<std::string>& more = {}) {
  const fs::path log = tiny.path() / "preflight.log";
  fs::remove(log);
  std::vector<std::string> words = {"preflight", config, "--json", "--device", "cpu"};
  words.insert(words.end(), more.begin(), more.end());
  Process process("drystone", words, log);
  Looked looked{.status = process.wait(), .report = {}, .text = process.output()};
  REQUIRE_MESSAGE(looked.status <= 1, looked.text);
  looked.report = Json::parse(looked.text);
  CHECK(looked.report.at("ok") == (looked.status == 0));
  return looked;
}

fs::path config_of(const Deployment& deployment, const std::string& party) {
  return deployment.parties() / party /
         (party == "coordinator" ? "coordinator.toml" : "client.toml");
}

}  // namespace

TEST_CASE("programs: preflight of a federation that is well, before and while it runs") {
  const TinyFederation tiny;
  const Deployment deployment(tiny);
  const Looked before = look(tiny, config_of(deployment, "coordinator"));
  CHECK_MESSAGE(before.status == 0, before.text);
  for (const char* what : {"keys", "roster", "address", "layout", "initial", "state", "disk"}) {
    CAPTURE(what);
    CHECK_MESSAGE(before.verdict(what) == "ok", before.text);
  }
  CHECK_FALSE(fs::exists(deployment.run()));  // it leaves nothing behind

  const Looked alone = look(tiny, config_of(deployment, "client-1"));
  CHECK(alone.status == 1);
  CHECK(alone.said("address").find("Connection refused; start the coordinator") !=
        std::string::npos);
  CHECK(alone.verdict("data.train") == "ok");  // all the others are made

  Process coordinator = deployment.start_coordinator();
  REQUIRE_MESSAGE(coordinator.says("listening"), coordinator.output());
  const Looked client = look(tiny, config_of(deployment, "client-1"));
  CHECK_MESSAGE(client.status == 0, client.text);
  for (const char* what :
       {"keys", "address", "handshake", "model", "data.train", "memory", "rank", "disk"}) {
    CAPTURE(what);
    CHECK_MESSAGE(client.verdict(what) == "ok", client.text);
  }
  CHECK(look(tiny, config_of(deployment, "evaluator")).status == 0);
  const Looked running = look(tiny, config_of(deployment, "coordinator"));
  CHECK_MESSAGE(running.status == 0, running.text);
  CHECK(running.said("address").find("by the coordinator that runs") != std::string::npos);
  CHECK(coordinator.output().find("second connection") == std::string::npos);
}

TEST_CASE("programs: preflight takes no client's place") {
  const TinyFederation tiny("[[clients]]\ncount = 2\n");
  const Deployment deployment(tiny, {"--set", "federation.quorum=2"});
  Process coordinator = deployment.start_coordinator();
  Process client = deployment.start_client("client-1");
  REQUIRE_MESSAGE(coordinator.says("client=client-1"), coordinator.output());
  CHECK(look(tiny, config_of(deployment, "client-1")).verdict("handshake") == "ok");
  Process other = deployment.start_client("client-2");
  Process evaluator = deployment.start_client("evaluator");
  CHECK_MESSAGE(coordinator.wait() == 0, coordinator.output());
  CHECK_MESSAGE(client.wait() == 0, client.output());
}

TEST_CASE("programs: preflight names what is wrong with keys, roster, address and state") {
  const TinyFederation tiny;
  const Deployment deployment(tiny);
  const fs::path config = config_of(deployment, "coordinator");
  const fs::path key = deployment.parties() / "coordinator" / "keys" / "coordinator.key";
  fs::permissions(key, fs::perms::group_read, fs::perm_options::add);
  Looked looked = look(tiny, config);
  CHECK(looked.status == 1);
  CHECK(looked.said("keys").find("open to other users; run `chmod 600") != std::string::npos);
  CHECK(looked.verdict("address") == "warn");  // not looked at
  CHECK(looked.verdict("disk") == "ok");
  fs::permissions(key, fs::perms::group_read, fs::perm_options::remove);

  const fs::path roster = deployment.parties() / "coordinator" / "roster.toml";
  fs::rename(roster, tiny.path() / "roster.toml");
  looked = look(tiny, config);
  CHECK(looked.verdict("roster") == "fail");
  CHECK(looked.verdict("layout") == "ok");
  fs::rename(tiny.path() / "roster.toml", roster);

  Process other = deployment.start_coordinator();
  REQUIRE_MESSAGE(other.says("listening"), other.output());
  looked = look(tiny, config, {"--set", "output.dir=\"" + (tiny.path() / "else").string() + "\""});
  CHECK(looked.verdict("address") == "fail");
  looked = look(tiny, config, {"--set", "seed=8"});
  CHECK(looked.said("state").find("(seed: 7 -> 8)") != std::string::npos);
  looked = look(tiny, config, {"--set", "output.dir=\"/proc/none\""});
  CHECK(looked.verdict("output.dir") == "fail");
}

TEST_CASE("programs: preflight names a wrong key of the coordinator, and a client that it lacks") {
  const TinyFederation tiny;
  const Deployment deployment(tiny);
  Process coordinator = deployment.start_coordinator();
  REQUIRE_MESSAGE(coordinator.says("listening"), coordinator.output());
  crypto::save_identity(crypto::generate_identity("stranger"), tiny.path());
  const std::string stranger = "\"" + (tiny.path() / "stranger").string();
  const fs::path config = config_of(deployment, "client-1");
  const Looked other =
      look(tiny, config, {"--set", "security.coordinator_key=" + stranger + ".pub\""});
  CHECK(other.verdict("handshake") == "fail");
  const Looked unknown = look(tiny, config, {"--set", "security.identity=" + stranger + "\""});
  CHECK(unknown.said("handshake").find("refuses the key of stranger; have its operator") !=
        std::string::npos);
}

TEST_CASE("programs: preflight of data, model, rank and memory") {
  const TinyFederation tiny;
  const Deployment deployment(tiny);
  const fs::path config = config_of(deployment, "client-1");
  const fs::path train = tiny.path() / "odd.jsonl";
  const std::vector<std::string> odd = {"--set", "data.train=\"" + train.string() + "\""};
  std::ofstream(train) << R"({"text": "a d e f g h i j k l m n", "label": "class-0"})" << "\n"
                       << R"({"text": " ", "label": "class-1"})" << "\n";
  Looked looked = look(tiny, config, odd);
  CHECK(looked.verdict("data.train") == "warn");
  CHECK(looked.said("data.train").find("1 of 2 texts are longer than model.max_length = 8") !=
        std::string::npos);
  CHECK(looked.said("data.train").find("empty text") != std::string::npos);
  std::ofstream(train) << R"({"text": "a", "label": "class-9"})" << "\n";
  CHECK(look(tiny, config, odd).said("data.train").find("not among data.labels") !=
        std::string::npos);
  fs::remove(train);
  CHECK(look(tiny, config, odd).said("data.train file").find("no such file") != std::string::npos);

  looked = look(tiny, config, {"--set", "model.sha256=\"" + std::string(64, 'a') + "\""});
  CHECK(looked.verdict("model") == "fail");
  CHECK(looked.verdict("data.train") == "warn");  // not looked at
  CHECK(look(tiny, config, {"--set", "model.path=\"none\""}).verdict("model folder") == "fail");
  CHECK(look(tiny, config, {"--set", "training.rank=60000"}).verdict("rank") == "fail");
  CHECK(look(tiny, config, {"--set", "training.memory_limit=\"1MB\""}).verdict("memory") == "fail");
}

TEST_CASE("programs: preflight of a simulation, as text, and of what is no configuration") {
  const TinyFederation tiny;
  Process good("drystone", {"preflight", tiny.config_file()}, tiny.path() / "good.log");
  CHECK_MESSAGE(good.wait() == 0, good.output());
  CHECK(good.output().find("ok    configuration: ") == 0);
  CHECK(good.output().find("ok    partition: dirichlet, 120 records") != std::string::npos);
  CHECK(good.output().find("ok    memory of client-") != std::string::npos);
  CHECK_FALSE(fs::exists(tiny.path() / "run"));
  Process rounds("drystone",
                 {"preflight", tiny.config_file(), "--set", "federation.rounds=1000000000"},
                 tiny.path() / "rounds.log");
  CHECK(rounds.wait() == 0);  // enough for the next round, not for all
  CHECK_MESSAGE(rounds.output().find("warn  disk: ") != std::string::npos, rounds.output());
  std::ofstream(tiny.path() / "none.toml") << "rounds = ";
  Process none("drystone", {"preflight", tiny.path() / "none.toml"}, tiny.path() / "none.log");
  CHECK(none.wait() == 2);
}
