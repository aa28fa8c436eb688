// drystone simulate as it is used: one value after another is tried.

#include <doctest/doctest.h>

#include "core/files.h"
#include "tests/programs/deployment.h"

using namespace drystone;
using test::Process;
namespace fs = std::filesystem;

namespace {

std::string simulate(const test::TinyFederation& tiny, std::vector<std::string> arguments,
                     int status = 0) {
  arguments.insert(arguments.begin(), {"simulate", tiny.config_file(), "--device", "cpu"});
  static int number = 0;
  Process process("drystone", arguments, tiny.path() / ("log-" + std::to_string(++number)));
  CHECK_MESSAGE(process.wait() == status, process.output());
  return process.output();
}

std::string head_of(const std::filesystem::path& run) {
  const std::string report = core::read_text_file(run / "report.json", 1 << 20);
  const std::size_t at = report.find("\"head\"");
  return report.substr(at, 80);
}

}  // namespace

TEST_CASE("simulate: a further run goes to a folder of its own, and --resume means the last") {
  const test::TinyFederation tiny;
  const std::string rounds = "federation.rounds=1";
  CHECK(simulate(tiny, {"--set", rounds}).find("/run\n") != std::string::npos);
  const std::string first = head_of(tiny.path() / "run");
  CHECK(
      simulate(tiny, {"--set", rounds, "--set", "training.learning_rate=1e-3"}).find("/run-2\n") !=
      std::string::npos);
  const std::string second = head_of(tiny.path() / "run-2");
  CHECK(head_of(tiny.path() / "run") == first);
  CHECK(first != second);
  simulate(tiny, {"--set", rounds, "--set", "training.learning_rate=1e-3", "--resume"});
  CHECK(head_of(tiny.path() / "run-2") == second);
  CHECK_FALSE(std::filesystem::exists(tiny.path() / "run-3"));
}

TEST_CASE("simulate: a folder named by --out is never taken twice without --resume") {
  const test::TinyFederation tiny;
  const std::string out = tiny.path() / "mine";
  simulate(tiny, {"--set", "federation.rounds=1", "--out", out});
  Process again("drystone", {"simulate", tiny.config_file(), "--out", out}, tiny.path() / "again");
  CHECK(again.wait() == 2);
  CHECK(again.output().find("--resume") != std::string::npos);
}

TEST_CASE("simulate --resume: without a run there it is refused and leaves nothing behind") {
  const test::TinyFederation tiny;
  const fs::path out = tiny.path() / "runs" / "none";
  const std::string said = simulate(tiny, {"--out", out, "--resume"}, 2);
  CHECK(said.find(out.string() + ": holds no run to go on with") != std::string::npos);
  CHECK_FALSE(fs::exists(tiny.path() / "runs"));
  CHECK(simulate(tiny, {"--resume"}, 2).find("/run: holds no run") != std::string::npos);
  CHECK_FALSE(fs::exists(tiny.path() / "run"));
}

TEST_CASE("simulate --resume: another configuration is refused by the keys that differ") {
  const test::TinyFederation tiny;
  const std::string out = tiny.path() / "mine";
  simulate(tiny, {"--out", out, "--set", "federation.rounds=1", "--set", "training.alpha=8"});
  std::string said = simulate(tiny, {"--out", out, "--resume", "--set", "seed=8"}, 2);
  CHECK(said.find("(federation.rounds: 1 -> 2, seed: 7 -> 8, training.alpha: 8.0 -> 4.0)") !=
        std::string::npos);
  CHECK(said.find("repeat its --set's") != std::string::npos);
  CHECK(said.find(out + "/config.toml") != std::string::npos);
  CHECK(said.find("--start-over") != std::string::npos);
  said = simulate(tiny,
                  {"--out", out, "--resume", "--set", "federation.rounds=1", "--set",
                   "training.alpha=8", "--set", "clients.0.rank=3"},
                  2);
  CHECK(said.find("(clients.0.rank: 4 -> 3)") != std::string::npos);
  fs::remove(out + "/config.toml");
  said = simulate(tiny, {"--out", out, "--resume"}, 2);
  CHECK(said.find("holds the state of another configuration") != std::string::npos);
  CHECK(said.find("--start-over") != std::string::npos);
}

TEST_CASE("simulate: of many clients the first are named, the others summed up") {
  const test::TinyFederation tiny("[[clients]]\nrank = 1\n");
  const auto said = [&](const std::string& count) {
    return simulate(tiny,
                    {"--start-over", "--set", "federation.rounds=1", "--set", "model.max_length=3",
                     "--set", "data.partition=\"iid\"", "--set", "clients.0.count=" + count});
  };
  const auto times = [](const std::string& text, const std::string& part) {
    int count = 0;
    for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; ++at) ++count;
    return count;
  };
  const std::string many = said("23");
  CHECK(times(many, "joined client=") == 20);  // of 23 and the evaluator
  CHECK(times(many, "joined as well clients=4 examples=") == 1);
  CHECK(times(many, "texts are cut to max_length of=client-") == 20);
  CHECK(times(many, "texts are cut to max_length of=\"3 more\"") == 1);
  const std::string few = said("19");
  CHECK(times(few, "joined client=") == 20);
  CHECK(times(few, "joined as well") == 0);
}

TEST_CASE("simulate --resume: the run's own config.toml means that run, not the last one") {
  const test::TinyFederation tiny;
  simulate(tiny, {"--set", "federation.rounds=1"});
  simulate(tiny, {"--set", "federation.rounds=1", "--set", "seed=8"});
  Process resumed("drystone", {"simulate", tiny.path() / "run" / "config.toml", "--resume"},
                  tiny.path() / "resumed");
  CHECK_MESSAGE(resumed.wait() == 0, resumed.output());
  CHECK(resumed.output().find("/run\n") != std::string::npos);
}

TEST_CASE("simulate: who stops it is told what is kept, and sees the finished rounds") {
  const test::TinyFederation tiny;
  const fs::path out = tiny.path() / "stopped";
  Process stopped("drystone",
                  {"simulate", tiny.config_file(), "--device", "cpu", "--out", out, "--set",
                   "federation.rounds=1000"},
                  tiny.path() / "log");
  REQUIRE_MESSAGE(stopped.says("version published"), stopped.output());
  stopped.signal(SIGINT);
  CHECK(stopped.wait() == 130);
  const std::string said = stopped.output();
  CAPTURE(said);
  CHECK(said.find("stopped after round ") != std::string::npos);
  CHECK(said.find(out.string() + " keeps all that was done, and --resume goes on from there") !=
        std::string::npos);
  CHECK(said.find("exactness") < said.find("stopped after round "));
}

TEST_CASE("coordinator: who stops it is told what is kept; another configuration is refused") {
  const test::TinyFederation tiny;
  const test::Deployment deployment(tiny);
  Process coordinator = deployment.start_coordinator();
  REQUIRE_MESSAGE(coordinator.says("listening"), coordinator.output());
  coordinator.signal(SIGTERM);
  CHECK(coordinator.wait() == 143);
  CHECK(coordinator.output().find("stopped before round 1; " +
                                  (deployment.run() / "state").string() + " keeps") !=
        std::string::npos);
  CHECK(coordinator.output().find("starting it again goes on") != std::string::npos);
  Process other("drystone-coordinator",
                {deployment.parties() / "coordinator" / "coordinator.toml", "--set", "seed=8"},
                tiny.path() / "other");
  CHECK(other.wait() == 2);
  CHECK(other.output().find("(seed: 7 -> 8)") != std::string::npos);
  CHECK(other.output().find("--start-over") != std::string::npos);
}

namespace {

/// A texts file with `count` examples of each of the keys.
std::string keyed_texts(const test::TinyFederation& tiny, const std::vector<std::string>& keys,
                        int count) {
  const fs::path file = tiny.path() / "keyed.jsonl";
  std::ofstream out(file);
  for (const std::string& key : keys) {
    for (int i = 0; i < count; ++i) {
      out << R"({"text": "a d e", "label": "class-)" << i % 3 << R"(", "who": ")" << key << "\"}\n";
    }
  }
  return file;
}

std::size_t count_of(const std::string& text, const std::string& piece) {
  std::size_t count = 0;
  for (std::size_t at = text.find(piece); at != std::string::npos; at = text.find(piece, at + 1)) {
    ++count;
  }
  return count;
}

}  // namespace

TEST_CASE("by-key: which key became which client is told, by simulate and by provision") {
  const test::TinyFederation tiny("[[clients]]\ncount = 2\n");
  const std::vector<std::string> keys = {"data.partition=by-key", "data.partition_key=who",
                                         "federation.rounds=1"};
  const auto both = [&](const std::string& file) {
    std::vector<std::string> sets = {"--set", "data.train=" + file};
    for (const std::string& key : keys) sets.insert(sets.end(), {"--set", key});
    static int number = 0;
    const fs::path out = tiny.path() / ("parties-" + std::to_string(++number));
    std::vector<std::string> provision = {"provision", tiny.config_file(), "--out", out};
    provision.insert(provision.end(), sets.begin(), sets.end());
    Process process("drystone", provision, out.string() + ".log");
    CHECK_MESSAGE(process.wait() == 0, process.output());
    return std::vector{simulate(tiny, sets), process.output()};
  };
  for (const std::string& said : both(keyed_texts(tiny, {"beta", "alpha"}, 4))) {
    CAPTURE(said);
    CHECK(count_of(said, "client=client-1 key=alpha examples=4") == 1);
    CHECK(count_of(said, "client=client-2 key=beta examples=4") == 1);
    CHECK(count_of(said, "more values") == 0);
  }
  for (const std::string& said : both(keyed_texts(tiny, {"d", "b", "a", "c"}, 3))) {
    CAPTURE(said);
    CHECK(count_of(said, "client=client-1 key=\"a, c\" examples=6") == 1);
    CHECK(count_of(said, "client=client-2 key=\"b, d\" examples=6") == 1);
    CHECK(count_of(said, "more values of data.partition_key than clients") == 1);
  }
}

TEST_CASE("by-key: of many clients the first are told, and how many there are besides") {
  const test::TinyFederation tiny("[[clients]]\ncount = 23\n");
  std::vector<std::string> names;
  for (char name = 'a'; name < 'a' + 23; ++name) names.emplace_back(1, name);
  const std::string said = simulate(
      tiny, {"--set", "data.train=" + keyed_texts(tiny, names, 3), "--set", "data.partition=by-key",
             "--set", "data.partition_key=who", "--set", "federation.rounds=1"});
  CAPTURE(said);
  CHECK(count_of(said, "key=") == 20);
  CHECK(count_of(said, "further clients' data, dealt out in the same way clients=3") == 1);
  const std::string metrics = core::read_text_file(tiny.path() / "run" / "metrics.jsonl", 1 << 20);
  CAPTURE(metrics);
  CHECK(count_of(metrics, R"({"event":"dealt",)") == 23);
  CHECK(metrics.starts_with(
      R"({"event":"dealt","client":"client-01","keys":"a","num_keys":1,"examples":3})"));
}

TEST_CASE("simulate: texts without a word are told once, with the first of them") {
  const test::TinyFederation tiny;
  const fs::path file = tiny.path() / "train.jsonl";
  std::string lines = R"({"text": "", "label": "class-0"})";
  lines +=
      "\n"
      R"({"text": " ", "label": "class-1"})"
      "\n";
  std::ofstream(file, std::ios::app) << lines;  // behind 120 others
  const std::string said = simulate(tiny, {"--set", "federation.rounds=1"});
  CAPTURE(said);
  CHECK(count_of(said, "records with an empty text") == 1);
  CHECK(count_of(said, file.string() + ":121 empty=2 records=122") == 1);
}

TEST_CASE("simulate: of several that begin in one folder at once one runs, undisturbed") {
  for (int turn = 0; turn < 3; ++turn) {
    const test::TinyFederation tiny;
    const std::vector<std::string> words = {"simulate", tiny.config_file(), "--device", "cpu",
                                            "--out",    tiny.path() / "run"};
    Process first("drystone", words, tiny.path() / "first.log");
    std::this_thread::sleep_for(std::chrono::milliseconds(100 * turn));
    Process second("drystone", words, tiny.path() / "second.log");
    const int one = first.wait();
    const int other = second.wait();
    CAPTURE(first.output());
    CAPTURE(second.output());
    CHECK((one == 0) != (other == 0));
    Process verify("drystone", {"inspect", tiny.path() / "run", "--verify"},
                   tiny.path() / "verify.log");
    CHECK(verify.wait() == 0);
  }
}

TEST_CASE("simulate: a killed run has its configuration, which goes on and tells what differs") {
  const test::TinyFederation tiny;
  const fs::path out = tiny.path() / "killed";
  const fs::path file = out / "config.toml";
  Process killed("drystone",
                 {"simulate", tiny.config_file(), "--device", "cpu", "--out", out, "--set",
                  "federation.rounds=12"},
                 tiny.path() / "log");
  REQUIRE_MESSAGE(killed.says("round begins"), killed.output());
  killed.kill();
  const std::string written = core::read_text_file(file, 1 << 20);
  const std::string said = simulate(tiny, {"--out", out, "--resume", "--set", "seed=8"}, 2);
  CHECK(said.find("(federation.rounds: 12 -> 2, seed: 7 -> 8)") != std::string::npos);
  CHECK(simulate(tiny, {"--out", out}, 2).find("holds an earlier run") != std::string::npos);
  CHECK(core::read_text_file(file, 1 << 20) == written);
  Process resumed("drystone", {"simulate", file, "--resume"}, tiny.path() / "resumed");
  CHECK_MESSAGE(resumed.wait() == 0, resumed.output());
  CHECK(resumed.output().find("goes on with what is there") != std::string::npos);
  CHECK(killed.output().find("goes on with") == std::string::npos);
  CHECK(core::read_text_file(file, 1 << 20) == written);
  Process inspect("drystone", {"inspect", out, "--verify"}, tiny.path() / "verify");
  CHECK_MESSAGE(inspect.wait() == 0, inspect.output());
}

TEST_CASE("simulate: what is refused before the first round leaves nothing that stops the next") {
  const test::TinyFederation tiny;
  const fs::path out = tiny.path() / "runs" / "mine";
  for (const char* const key : {"training.memory_limit=1MB", "federation.quorum=9"}) {
    CAPTURE(key);
    simulate(tiny, {"--out", out, "--set", key}, 2);
    CHECK_FALSE(fs::exists(tiny.path() / "runs"));
  }
  fs::create_directories(out);
  const std::string refused = "training.memory_limit=1MB";
  simulate(tiny, {"--out", out, "--set", refused}, 2);
  simulate(tiny, {"--out", out, "--start-over", "--set", refused}, 2);
  simulate(tiny, {"--out", out, "--set", "federation.rounds=1"});
  simulate(tiny, {"--out", out, "--start-over", "--set", refused}, 2);
  simulate(tiny, {"--out", out, "--set", "federation.rounds=1"});
}

TEST_CASE("simulate: texts longer than a rotary model was made for are told, and trained on") {
  const test::TinyFederation tiny;
  const fs::path fixture = fs::path(DRYSTONE_SOURCE_DIR) / "tests/models/fixtures/decoders/llama";
  const fs::path model = tiny.path() / "llama";
  fs::create_directories(model);
  for (const char* const file : {"config.json", "model.safetensors"}) {
    fs::copy_file(fixture / file, model / file);
  }
  fs::copy_file(tiny.path() / "model/vocab.txt", model / "vocab.txt");
  const auto said = [&](const std::string& length, const std::string& rank = "2") {
    return simulate(tiny, {"--start-over", "--set", "model.path=" + model.string(), "--set",
                           "model.task=causal-lm", "--set", "model.max_length=" + length, "--set",
                           "federation.rounds=1", "--set", "data.partition=iid", "--set",
                           "clients.0.rank=" + rank, "--set", "clients.1.rank=" + rank});
  };
  CHECK(said("65").find("tokens=65 max_position_embeddings=64") != std::string::npos);
  const std::string usual = said("64");
  CHECK(usual.find("max_position_embeddings") == std::string::npos);
  CHECK(usual.find("of_use=") == std::string::npos);
  const std::string wide = said("64", "6");  // keys and values have 4 rows
  const std::size_t told = wide.find("client=client-1 rank=6 of_use=4");
  CHECK(told != std::string::npos);
  CHECK(wide.find("of_use=", told + 30) == std::string::npos);
}

TEST_CASE("coordinator: a killed one has its configuration, and tells what differs") {
  const test::TinyFederation tiny;
  const test::Deployment deployment(tiny);
  Process coordinator = deployment.start_coordinator();
  REQUIRE_MESSAGE(coordinator.says("listening"), coordinator.output());
  coordinator.kill();
  CHECK(fs::exists(deployment.run() / "config.toml"));
  Process other("drystone-coordinator",
                {deployment.parties() / "coordinator" / "coordinator.toml", "--set", "seed=8"},
                tiny.path() / "other");
  CHECK(other.wait() == 2);
  CHECK(other.output().find("(seed: 7 -> 8)") != std::string::npos);
}

TEST_CASE("simulate: a rank that no layer can use is refused, one that some cannot is told once") {
  const test::TinyFederation tiny;  // layers of 12 x 12, 12 x 16 and 16 x 12
  const std::string many = "clients.1.rank=65536";
  const std::string refused = simulate(tiny, {"--set", many}, 2);
  CHECK(refused.find("65536 of \"client-2\"") != std::string::npos);
  CHECK(refused.find("the largest rank that is of use with method \"lora\" is 12\n") !=
        std::string::npos);
  const std::vector<std::string> picks = {"--set", "training.method=sbora-fa", "--set",
                                          "training.rank=13"};
  CHECK(simulate(tiny, picks, 2).find("with method \"sbora-fa\" is 12\n") != std::string::npos);
  CHECK_FALSE(fs::exists(tiny.path() / "run"));
  Process provision(
      "drystone",
      {"provision", tiny.config_file(), "--out", tiny.path() / "parties", "--set", many},
      tiny.path() / "provision.log");
  CHECK(provision.wait() == 2);
  CHECK(provision.output().find("65536 of \"client-2\"") != std::string::npos);
}
