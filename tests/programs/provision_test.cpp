// drystone provision: keys that outlive a configuration, data that stays where it is, models that
// lie elsewhere.

#include <map>

#include <doctest/doctest.h>

#include "core/files.h"
#include "tests/programs/process.h"
#include "tests/simulation/tiny_federation.h"

using namespace drystone;
using test::Process;
namespace fs = std::filesystem;

namespace {

class Provisioning {
 public:
  explicit Provisioning(const test::TinyFederation& tiny) : tiny_(tiny) {}

  /// @return what the command said
  std::string run(std::vector<std::string> arguments, int status = 0) {
    arguments.insert(arguments.begin(), {"provision", tiny_.config_file(), "--out", out()});
    Process process("drystone", arguments, tiny_.path() / ("log-" + std::to_string(++number_)));
    CHECK_MESSAGE(process.wait() == status, process.output());
    return process.output();
  }
  fs::path out() const { return tiny_.path() / "parties"; }
  std::string text(const fs::path& file) const {
    return core::read_text_file(out() / file, 1 << 20);
  }
  bool says(const fs::path& file, const std::string& line) const {
    return text(file).find(line + "\n") != std::string::npos;
  }

 private:
  const test::TinyFederation& tiny_;
  int number_ = 0;
};

/// Every file below `folder` with its content.
std::map<fs::path, std::string> files_of(const fs::path& folder) {
  std::map<fs::path, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    files[entry.path().lexically_relative(folder)] = core::read_text_file(entry.path(), 1 << 24);
  }
  return files;
}

}  // namespace

TEST_CASE("provision --update: one changed value, and every key and text stays") {
  const test::TinyFederation tiny;
  Provisioning provisioning(tiny);
  provisioning.run({});
  fs::remove(provisioning.out() / "client-2/keys/client-2.key");  // copied to its machine, and gone
  auto before = files_of(provisioning.out());
  provisioning.run({"--update", "--set", "training.learning_rate=3e-3"});
  auto after = files_of(provisioning.out());
  CHECK(before.size() == after.size());
  for (const auto& [file, content] : before) {
    CAPTURE(file);
    if (file.filename() == "contract.json") continue;  // names the federation, which is another now
    if (file.extension() != ".toml" || file.filename() == "roster.toml") {
      CHECK(after[file] == content);
    } else {
      CHECK(after[file].find("learning_rate = 0.003\n") != std::string::npos);
    }
  }
}

TEST_CASE("provision: nobody simulates in the folder of a client that it made") {
  const test::TinyFederation tiny;
  Provisioning provisioning(tiny);
  provisioning.run({});
  const fs::path client = provisioning.out() / "client-1";
  const auto before = files_of(client);
  for (const char* const flag : {"--resume", "--start-over"}) {
    test::Process simulate("drystone",
                           {"simulate", tiny.config_file(), "--out", client / "run", flag},
                           tiny.path() / "simulate.log");
    CHECK(simulate.wait() == 2);
    CHECK(simulate.output().find("holds the state of a deployed client") != std::string::npos);
    CHECK(files_of(client) == before);
  }
}

TEST_CASE("provision --update: a new party gets keys, the roster's limits stay") {
  const test::TinyFederation tiny;
  Provisioning provisioning(tiny);
  provisioning.run({"--set", "data.partition=iid"});
  std::string roster = provisioning.text("coordinator/roster.toml");
  const std::size_t at = roster.find("max_examples = 30");
  REQUIRE(at != std::string::npos);
  roster.replace(at, 17, "max_examples = 77");
  core::write_file_atomic(provisioning.out() / "coordinator/roster.toml", core::as_bytes(roster));
  provisioning.run({"--update", "--set", "data.partition=iid", "--set", "clients.1.count=3"});
  CHECK(provisioning.says("coordinator/roster.toml", "max_examples = 77"));
  CHECK(provisioning.says("coordinator/roster.toml", "name = \"client-5\""));
  CHECK(fs::exists(provisioning.out() / "client-5/keys/client-5.key"));
}

TEST_CASE("provision: without central data the clients bring theirs") {
  const test::TinyFederation tiny;
  std::string config = core::read_text_file(tiny.config_file(), 1 << 20);
  const std::string train = "train = \"train.jsonl\"\n";
  config.erase(config.find(train), train.size());
  core::write_file_atomic(tiny.config_file(), core::as_bytes(config));
  Provisioning provisioning(tiny);
  CHECK(provisioning.run({}, 2).find("data.labels") != std::string::npos);
  CHECK_FALSE(fs::exists(provisioning.out()));
  const std::string said =
      provisioning.run({"--set", "data.labels=[\"class-0\", \"class-1\", \"class-2\"]"});
  CHECK(said.find("max_examples") != std::string::npos);
  CHECK_FALSE(fs::exists(provisioning.out() / "client-1/train.jsonl"));
  CHECK(provisioning.says("client-1/client.toml", "train = \"train.jsonl\""));
}

TEST_CASE("provision: the model lies where the clients' machines have it") {
  const test::TinyFederation tiny;
  Provisioning provisioning(tiny);
  provisioning.run({"--model-path", "../models/tiny"});
  CHECK(provisioning.says("client-1/client.toml", "path = \"../models/tiny\""));
  provisioning.run({"--update", "--copy-model"});
  CHECK(provisioning.says("client-1/client.toml", "path = \"model\""));
  CHECK(fs::exists(provisioning.out() / "client-1/model/model.safetensors"));
}

TEST_CASE("provision --update: addresses and the model's place stay unless they are given again") {
  const test::TinyFederation tiny;
  Provisioning provisioning(tiny);
  const std::string bind = "coordinator = \"tcp://0.0.0.0:5571\"";
  provisioning.run({"--address", "tcp://server.example:5570", "--bind", "tcp://0.0.0.0:5571",
                    "--model-path", "../models/tiny"});
  std::string moved = provisioning.text("client-2/client.toml");
  const std::string line = "path = \"../models/tiny\"";
  moved.replace(moved.find(line), line.size(), "\"path\" = \"/opt/models/tiny\"");
  core::write_file_atomic(provisioning.out() / "client-2/client.toml", core::as_bytes(moved));
  provisioning.run({"--update", "--set", "clients.1.count=3"});
  for (const std::string client : {"client-1", "client-5", "evaluator"}) {
    CAPTURE(client);
    CHECK(
        provisioning.says(client + "/client.toml", "coordinator = \"tcp://server.example:5570\""));
    CHECK(provisioning.says(client + "/client.toml", "path = \"../models/tiny\""));
  }
  CHECK(provisioning.says("client-2/client.toml", "path = \"/opt/models/tiny\""));
  CHECK(provisioning.says("coordinator/coordinator.toml", bind));
  provisioning.run({"--update", "--address", "tcp://192.0.2.7:5570", "--model-path", "/models"});
  CHECK(provisioning.says("client-2/client.toml", "coordinator = \"tcp://192.0.2.7:5570\""));
  CHECK(provisioning.says("client-2/client.toml", "path = \"/models\""));
  CHECK(provisioning.says("coordinator/coordinator.toml", bind));
}

TEST_CASE("provision --update: what was bound for the earlier address follows the new one") {
  const test::TinyFederation tiny;
  Provisioning provisioning(tiny);
  provisioning.run({"--address", "tcp://192.0.2.7:5570"});
  provisioning.run({"--update"});
  CHECK(
      provisioning.says("coordinator/coordinator.toml", "coordinator = \"tcp://192.0.2.7:5570\""));
  provisioning.run({"--update", "--address", "tcp://192.0.2.8:5570"});
  CHECK(
      provisioning.says("coordinator/coordinator.toml", "coordinator = \"tcp://192.0.2.8:5570\""));
}

TEST_CASE("provision --update: a copied model stays the copied one, for new parties too") {
  const test::TinyFederation tiny;
  Provisioning provisioning(tiny);
  provisioning.run({"--copy-model"});
  provisioning.run({"--update", "--set", "clients.1.count=3"});
  for (const std::string client : {"client-1", "client-5"}) {
    CAPTURE(client);
    CHECK(provisioning.says(client + "/client.toml", "path = \"model\""));
    CHECK(fs::exists(provisioning.out() / client / "model/model.safetensors"));
  }
}

TEST_CASE("provision --update: a model that lies as on this machine follows the configuration") {
  const test::TinyFederation tiny;
  Provisioning provisioning(tiny);
  provisioning.run({});
  const fs::path other = tiny.path() / "other";
  fs::copy(tiny.path() / "model", other);
  provisioning.run({"--update", "--set", "model.path=\"" + other.string() + "\""});
  CHECK(provisioning.says("client-1/client.toml", "path = \"" + other.string() + "\""));
}

TEST_CASE("provision --update: without a file that tells the address it must be given") {
  const test::TinyFederation tiny;
  Provisioning provisioning(tiny);
  provisioning.run({"--address", "tcp://server.example:5570"});
  for (const auto& entry : fs::directory_iterator(provisioning.out())) {
    fs::remove(entry.path() / "client.toml");
  }
  CHECK(provisioning.run({"--update"}, 2).find("give --address") != std::string::npos);
}

TEST_CASE("provision: a folder with a slash at its end is the same folder") {
  const test::TinyFederation tiny;
  const fs::path out = tiny.path() / "parties";
  Process process("drystone", {"provision", tiny.config_file(), "--out", out.string() + "/"},
                  tiny.path() / "log");
  CHECK_MESSAGE(process.wait() == 0, process.output());
  CHECK(fs::exists(out / "client-1/client.toml"));
}

TEST_CASE("provision: what fails leaves nothing behind") {
  const test::TinyFederation tiny;
  Provisioning provisioning(tiny);
  provisioning.run({"--set", "data.label_field=topic"}, 2);
  for (const auto& entry : fs::directory_iterator(tiny.path())) {
    CHECK(entry.path().filename().string().find("parties") == std::string::npos);
  }
  CHECK(provisioning.run({"--update"}, 2).find("roster.toml") != std::string::npos);
}

TEST_CASE("provision: each program says whose the configuration is that it cannot use") {
  const test::TinyFederation tiny;
  Provisioning provisioning(tiny);
  provisioning.run({});
  const auto said = [&](const std::string& program, std::vector<std::string> arguments) {
    Process process(program, arguments, tiny.path() / "said.log");
    CHECK(process.wait() == 2);
    return process.output();
  };
  const fs::path client = provisioning.out() / "client-1/client.toml";
  const fs::path evaluator = provisioning.out() / "evaluator/client.toml";
  const fs::path coordinator = provisioning.out() / "coordinator/coordinator.toml";
  const fs::path out = tiny.path() / "alone";
  for (const fs::path& file : {client, evaluator}) {
    CHECK(said("drystone", {"simulate", file, "--out", out}).find("a deployed client's conf") !=
          std::string::npos);
  }
  CHECK_FALSE(fs::exists(out));
  CHECK(said("drystone-coordinator", {client}).find("this is a client's configuration") !=
        std::string::npos);
  CHECK(said("drystone-client", {coordinator}).find("this is the coordinator's configuration") !=
        std::string::npos);
}

TEST_CASE("provision --update: what changed is told, and which files have to be copied") {
  const test::TinyFederation tiny;
  Provisioning provisioning(tiny);
  CHECK(provisioning.run({}).find("Copy each folder") != std::string::npos);
  CHECK(provisioning.run({"--update"}).find("Nothing has changed") != std::string::npos);
  const std::string said = provisioning.run(
      {"--update", "--set", "training.learning_rate=3e-3", "--set", "clients.1.count=3"});
  CAPTURE(said);
  CHECK(said.find("Copy each folder") == std::string::npos);
  CHECK(said.find("  client-5: new, the whole folder\n") != std::string::npos);
  CHECK(said.find("client-3, evaluator: client.toml, run/contract.json\n"
                  "    training.learning_rate: 0.01 -> 0.003\n") != std::string::npos);
  CHECK(said.find("  coordinator: coordinator.toml, roster.toml\n"
                  "    clients.1.count: 2 -> 3, training.learning_rate: 0.01 -> 0.003\n") !=
        std::string::npos);
  CHECK(said.find("train.jsonl") == std::string::npos);
}

TEST_CASE("provision: an address that nobody can connect to is refused, with the remedy") {
  const test::TinyFederation tiny;
  Provisioning provisioning(tiny);
  for (const char* const every : {"tcp://*:5599", "tcp://0.0.0.0:5570", "tcp://[::]:5570"}) {
    CAPTURE(every);
    CHECK(provisioning.run({"--address", every}, 2).find("--bind") != std::string::npos);
  }
  CHECK(provisioning.run({"--address", "tcp://127.0.0.1:99999"}, 2).find("from 1 to 65535") !=
        std::string::npos);
  CHECK(provisioning.run({"--address", "tcp://127.0.0.1:0"}, 2).find("from 1 to 65535") !=
        std::string::npos);
  CHECK(provisioning.run({"--address", "tcp://a b:5570"}, 2).find("tcp://HOST:PORT") !=
        std::string::npos);
  CHECK(provisioning.run({"--bind", "tcp://*:99999"}, 2).find("from 1 to 65535") !=
        std::string::npos);
  CHECK_FALSE(fs::exists(provisioning.out()));
}

TEST_CASE("provision: labels of the texts that are not among data.labels are told at once") {
  const test::TinyFederation tiny;
  Provisioning provisioning(tiny);
  const std::vector<std::string> all = {"--set",
                                        "data.labels=[\"class-0\", \"class-1\", \"class-2\"]"};
  const std::string iid = "data.partition=iid";
  const std::string said =
      provisioning.run({"--set", iid, "--set", "data.labels=[\"a\", \"b\"]"}, 2);
  CHECK(said.find("train.jsonl:1: its label is not among data.labels (a, b)") != std::string::npos);
  std::string test = core::read_text_file(tiny.path() / "test.jsonl", 1 << 20);
  test += "{\"text\": \"a d\", \"label\": \"other\"}\n";
  core::write_file_atomic(tiny.path() / "test.jsonl", core::as_bytes(test));
  CHECK(provisioning.run(all, 2).find("test.jsonl:41: its label is not among data.labels") !=
        std::string::npos);
  CHECK_FALSE(fs::exists(provisioning.out()));
}
