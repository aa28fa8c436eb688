// What a person types wrong: one line that names it and the remedy, and status 2.

#include <algorithm>

#include <doctest/doctest.h>

#include "tests/programs/process.h"
#include "tests/simulation/tiny_federation.h"

using namespace drystone;
using test::Process;

namespace {

struct Case {
  std::string program;
  std::vector<std::string> arguments;
  std::vector<std::string> pieces;  ///< of the error line
};

/// The one line that a program refuses its arguments with.
std::string refusal(const test::TinyFederation& tiny, const std::string& program,
                    const std::vector<std::string>& arguments) {
  const std::filesystem::path log = tiny.path() / "refusal.log";
  std::filesystem::remove(log);
  Process process(program, arguments, log);
  CHECK(process.wait() == 2);
  const std::string output = process.output();
  CAPTURE(output);
  CHECK(std::count(output.begin(), output.end(), '\n') == 1);
  CHECK(output.starts_with("drystone: error: "));
  std::filesystem::remove_all(tiny.path() / "run");
  return output;
}

bool has(const std::string& text, const std::string& piece) {
  return text.find(piece) != std::string::npos;
}

}  // namespace

TEST_CASE("programs: a path that is missing or wrong is told with its key, file and remedy") {
  const test::TinyFederation tiny;
  const std::string config = tiny.config_file();
  const auto with = [&](const std::string& text, const std::string& more = "") {
    const std::string file = tiny.path() / "own.toml";
    std::ofstream(file) << text << "[output]\ndir = \"run\"\n";
    std::vector<std::string> arguments = {"simulate", file};
    if (!more.empty()) arguments.insert(arguments.end(), {"--set", more});
    return refusal(tiny, "drystone", arguments);
  };
  const std::string relative = "a relative path ";
  std::string line = with("[data]\ntrain = \"train.jsonl\"\n");
  CHECK_MESSAGE(has(line, "own.toml: model.path: is missing; name the folder"), line);
  line = with("[model]\npath = \"model\"\n");
  CHECK_MESSAGE(has(line, "own.toml: data.train: is missing; name the file"), line);
  line = with("[model]\npath = \"nowhere\"\n");
  CHECK_MESSAGE(has(line, "own.toml:2: model.path: " + (tiny.path() / "nowhere").string() +
                              ": no such folder; name one"),
                line);
  CHECK_MESSAGE(has(line, relative + "begins in the configuration's folder"), line);
  line = with("[model]\npath = \"/no/such\"\n[data]\ntrain = \"train.jsonl\"\n");
  CHECK_MESSAGE(has(line, "own.toml:2: model.path: /no/such: no such folder"), line);
  CHECK_MESSAGE(!has(line, relative), line);
  line = with("", "model.path=/no/such");
  CHECK_MESSAGE(has(line, "--set model.path: /no/such: no such folder"), line);
  CHECK_MESSAGE(!has(line, relative), line);
  line = with("", "model.path=no/such");
  CHECK_MESSAGE(has(line, relative + "of --set begins in the current folder"), line);

  for (const std::string clients : {"", "[[clients]]\ncount = 2\n"}) {
    const std::string both = "[model]\npath = \"model\"\n[data]\n";
    line = with(both + "train = \"none.jsonl\"\n" + clients);
    CHECK_MESSAGE(has(line, "own.toml:4: data.train: " + (tiny.path() / "none.jsonl").string() +
                                ": no such file; name one"),
                  line);
    CHECK_MESSAGE(has(line, relative + "begins in the configuration's folder"), line);
    line = with(both + "train = \"..\"\n" + clients);
    CHECK_MESSAGE(has(line, ": is a folder; name a file, or set data.partition"), line);
    line = with(both + "train = \"none*.jsonl\"\npartition = \"by-file\"\n" + clients);
    CHECK_MESSAGE(has(line, "own.toml:4: data.train: "), line);
    CHECK_MESSAGE(has(line, ": no data file there; name one"), line);
  }
}

TEST_CASE("programs: a data file without records is named as such") {
  const test::TinyFederation tiny;
  const std::string config = tiny.config_file();
  const std::string empty = tiny.path() / "empty.jsonl";
  for (const std::string content : {"", "\n\n \n"}) {
    std::ofstream(empty, std::ios::trunc) << content;
    for (const std::string key : {"data.train", "data.test"}) {
      const std::string line =
          refusal(tiny, "drystone", {"simulate", config, "--set", key + "=" + empty});
      CHECK_MESSAGE(has(line, "--set " + key + ": " + empty + ": holds no records; give a file"),
                    line);
    }
    const std::string line = refusal(
        tiny, "drystone",
        {"evaluate", "--model", tiny.path() / "model", "--data", empty, "--labels", "a,b,c"});
    CHECK_MESSAGE(has(line, "--data: " + empty + ": holds no records; give a file"), line);
  }
  const std::filesystem::path parties = tiny.path() / "parties";
  Process provision("drystone", {"provision", config, "--out", parties}, tiny.path() / "made.log");
  REQUIRE_MESSAGE(provision.wait() == 0, provision.output());
  std::ofstream(parties / "client-1" / "train.jsonl", std::ios::trunc) << "\n";
  const std::string line = refusal(tiny, "drystone-client", {parties / "client-1" / "client.toml"});
  CHECK_MESSAGE(has(line, "client.toml:"), line);
  CHECK_MESSAGE(has(line, "data.train: "), line);
  CHECK_MESSAGE(has(line, "train.jsonl: holds no records; give a file"), line);
}

TEST_CASE("programs: texts of a language model for a classifier, and the other way round") {
  const test::TinyFederation tiny;
  const std::string file = tiny.path() / "plain.jsonl";
  const auto simulate = [&](const std::string& content) {
    std::ofstream(file, std::ios::trunc) << content << "\n";
    return refusal(tiny, "drystone",
                   {"simulate", tiny.config_file(), "--set", "data.train=" + file});
  };
  std::string line = simulate(R"({"text": "once upon a time"})");
  CHECK_MESSAGE(has(line, "\"causal-lm\" for texts that a language model learns"), line);
  line = simulate(R"({"instruction": "a", "output": "b"})");
  CHECK_MESSAGE(has(line, "or model.task to \"causal-lm\""), line);
  line =
      refusal(tiny, "drystone", {"generate", "--model", tiny.path() / "model", "--prompt", "a b"});
  CHECK_MESSAGE(has(line, "is an encoder"), line);
  CHECK_MESSAGE(!has(line, "model.task"), line);
}

TEST_CASE("programs: wrong usage and configuration exit with 2 and one line") {
  const test::TinyFederation tiny;
  const std::string config = tiny.config_file();
  const std::string mislabelled = tiny.path() / "mislabelled.jsonl";
  std::ofstream(mislabelled) << R"({"text": "a", "label": "class-0"})" << "\n\n"
                             << R"({"text": "a", "label": "class-9"})" << "\n"
                             << R"({"text": "a", "label": "class-0"})" << "\n"
                             << R"({"text": "a", "label": "class-0"})" << "\n";
  const std::string train = "data.train=\"" + mislabelled + "\"";
  const std::string labels = "data.labels=[\"class-0\", \"class-1\", \"class-2\"]";
  const std::string array = tiny.path() / "mislabelled.json";
  std::ofstream(array) << R"([{"text": "a", "label": "class-0"},)"
                       << R"({"text": "a", "label": "class-9"}])";
  const auto evaluation_of = [&](const std::string& data) -> std::vector<std::string> {
    return {"evaluate", "--model",  tiny.path() / "model",     "--data",
            data,       "--labels", "class-0,class-1,class-2", "--max-length",
            "8"};
  };
  const std::vector<Case> cases = {
      {"drystone", {"simulat", config}, {"drystone: error: ", "simulate"}},
      {"drystone", {"simulate"}, {"CONFIG"}},
      {"drystone", {"simulate", config, "--set", "training.rnak=3"}, {"training.rnak", "rank"}},
      {"drystone",
       {"simulate", config, "--set", "training.method=\"kasa2\""},
       {"kasa2", "lora, rslora"}},
      {"drystone",
       {"simulate", config, "--set", "training.method=LoRA"},
       {"\"LoRA\" is not available; did you mean \"lora\"? methods that work: lora, "}},
      {"drystone",
       {"simulate", config, "--set", "training.target_modules=[\"quary\"]"},
       {"quary", "query"}},
      {"drystone", {"simulate", config, "--set", "model.path=\"nowhere\""}, {"nowhere"}},
      {"drystone", {"simulate", config, "--set", "data.train=\"none.jsonl\""}, {"none.jsonl"}},
      {"drystone",
       {"simulate", config, "--set", "data.label_field=\"topic\""},
       {"train.jsonl", "topic"}},
      {"drystone",
       {"simulate", config, "--set", train, "--set", labels, "--set", "data.partition=\"iid\""},
       {"mislabelled.jsonl:3: label \"class-9\""}},
      {"drystone",
       {"simulate", config, "--set", train, "--set", labels},
       {"mislabelled.jsonl:3: its label is not among data.labels"}},
      {"drystone",
       evaluation_of(mislabelled),
       {"mislabelled.jsonl:3: label \"class-9\"", "set --labels"}},
      {"drystone", evaluation_of(array), {"mislabelled.json:1: record 2: label \"class-9\""}},
      {"drystone", {"evaluate", "--task", "causal"}, {"--task: \"causal\" is not supported"}},
      {"drystone", {"evaluate", "--prior=-1"}, {"--prior: ", "\"-1\" is no number > 0.0"}},
      {"drystone", {"evaluate", "--samples=1e99"}, {"--samples: \"1e99\" is no whole number >= 0"}},
      {"drystone", {"evaluate", "--batch-size="}, {"--batch-size: needs a value"}},
      {"drystone", {"generate", "--seed=-1"}, {"--seed: \"-1\" is no whole number >= 0"}},
      {"drystone", {"generate", "--dtype", "half"}, {"--dtype: \"half\" is not supported"}},
      {"drystone", {"merge", "--max-shard-size=-1"}, {"--max-shard-size: \"-1\" is no size"}},
      {"drystone", {"export", "--tolerance", "1"}, {"--tolerance: \"1\" is no number >= 2e-07"}},
      {"drystone", {"export", "--format", "0"}, {"--format: \"0\" is not supported"}},
      {"drystone", {"simulate", "--memory-limit", "lots"}, {"--memory-limit: \"lots\" is no size"}},
      {"drystone-client",
       {config, "--give-up-after", "1 day"},
       {"--give-up-after: \"1 day\" is no duration"}},
      {"drystone-coordinator", {config}, {"security.coordinator", "missing"}},
      {"drystone-client", {config}, {"security.coordinator", "missing"}},
  };
  for (const Case& wrong : cases) {
    CAPTURE(wrong.arguments.back());
    Process process(wrong.program, wrong.arguments, tiny.path() / "usage.log");
    CHECK(process.wait() == 2);
    const std::string output = process.output();
    CAPTURE(output);
    CHECK(std::count(output.begin(), output.end(), '\n') == 1);
    CHECK(output.starts_with("drystone: error: "));
    for (const std::string& piece : wrong.pieces) CHECK(output.find(piece) != std::string::npos);
    std::filesystem::remove(tiny.path() / "usage.log");
    std::filesystem::remove_all(tiny.path() / "run");
  }
}

TEST_CASE("programs: a folder's name is printed visibly, whatever a terminal would make of it") {
  const test::TinyFederation tiny;
  const std::string out = tiny.path() / "red \x1b[31m";
  const auto prints = [&](const std::vector<std::string>& words) {
    const std::filesystem::path log = tiny.path() / "printed.log";
    std::filesystem::remove(log);
    Process process("drystone", words, log);
    const std::string output = process.wait() == 0 ? process.output() : "failed";
    CHECK_MESSAGE(has(output, "red \\u001B[31m"), output);
    CHECK_FALSE(has(output, "\x1b"));
  };
  const std::string config = tiny.config_file();
  prints({"keys", "new", "a", "--out", out + "/keys"});
  prints({"provision", config, "--out", out + "/parties"});
  prints({"provision", config, "--out", out + "/parties", "--update"});
  prints({"simulate", config, "--out", out + "/run"});
  prints({"inspect", out + "/run"});
  prints({"merge", "--model", tiny.path() / "model", "--adapter", out + "/run/global", "--out",
          out + "/merged"});
}

TEST_CASE("programs: every command explains itself and tells its version") {
  const test::TinyFederation tiny;
  for (const std::string program : {"drystone", "drystone-coordinator", "drystone-client"}) {
    CAPTURE(program);
    Process help(program, {"--help"}, tiny.path() / (program + ".help"));
    CHECK(help.wait() == 0);
    CHECK(help.output().find("--device") != std::string::npos);
    Process version(program, {"--version"}, tiny.path() / (program + ".version"));
    CHECK(version.wait() == 0);
    CHECK(version.output().find("0.1.0") != std::string::npos);
  }
  for (const std::string command : {"simulate", "evaluate", "generate", "inspect", "merge",
                                    "export", "keys", "provision", "tokenize"}) {
    CAPTURE(command);
    Process help("drystone", {command, "--help"}, tiny.path() / (command + ".help"));
    CHECK(help.wait() == 0);
    CHECK(help.output().find("Usage") != std::string::npos);
  }
}
