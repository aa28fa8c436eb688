// drystone generate as a person runs it: streaming, several prompts, adapters, chat, and stdin's
// place. The real stories260K where the shared data are; else a tiny random model.

#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "tests/programs/process.h"
#include "tests/temporary_folder.h"

using namespace drystone;
namespace fs = std::filesystem;

namespace {

const fs::path kSource = DRYSTONE_SOURCE_DIR;

/// The random Llama of the fixtures with a vocabulary of letters.
class TinyModel {
 public:
  TinyModel() {
    const fs::path fixture = kSource / "tests/models/fixtures/decoders/llama";
    for (const char* const file : {"config.json", "model.safetensors"}) {
      fs::copy_file(fixture / file, folder_.path() / file);
    }
    std::string vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    for (char word = 'a'; word <= 'z'; ++word) vocabulary += std::string(1, word) + "\n";
    folder_.write("vocab.txt", vocabulary);
  }
  fs::path path() const { return folder_.path(); }

  /// The command's lines on stdout; stderr is silenced.
  std::vector<nlohmann::json> run(std::vector<std::string> arguments) {
    return run_with(path(), std::move(arguments));
  }
  std::vector<nlohmann::json> run_with(const fs::path& folder, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(),
                     {"generate", "--model", folder.string(), "--json", "--log-level", "error"});
    const fs::path log = path() / ("log" + std::to_string(count_++));
    test::Process process("drystone", arguments, log);
    REQUIRE(process.wait() == 0);
    std::istringstream output(process.output());
    std::vector<nlohmann::json> objects;
    for (std::string line; std::getline(output, line);) {
      objects.push_back(nlohmann::json::parse(line));
    }
    return objects;
  }
  /// Any other command.
  void call(const std::vector<std::string>& arguments) {
    const fs::path log = path() / ("log" + std::to_string(count_++));
    test::Process process("drystone", arguments, log);
    REQUIRE_MESSAGE(process.wait() == 0, process.output());
  }
  void write(const std::string& name, const std::string& text) { folder_.write(name, text); }

  /// What a person reads when it fails.
  std::string refusal(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"generate", "--model", path().string()});
    const fs::path log = path() / ("log" + std::to_string(count_++));
    test::Process process("drystone", arguments, log);
    CHECK(process.wait() == 2);
    return process.output();
  }

 private:
  test::TemporaryFolder folder_;
  int count_ = 0;
};

}  // namespace

TEST_CASE("generate: prompts run together as they do alone; the seed decides a drawn text") {
  TinyModel model;
  model.path();
  const auto with = [&](std::vector<std::string> arguments, const char* seed = "3") {
    arguments.insert(arguments.end(), {"--temperature", "0.8", "--top-k", "9", "--seed", seed,
                                       "--max-new-tokens", "6"});
    return model.run(arguments);
  };
  const auto both = with({"--prompt", "a b c", "--prompt", "d"});
  REQUIRE(both.size() == 2);
  CHECK(both[0].at("prompt") == "a b c");
  CHECK(both[0].at("ids").size() <= 6);
  CHECK(with({"--prompt", "a b c", "--prompt", "d", "--batch", "1"}) == both);
  CHECK(with({"--prompt", "a b c"}).front() == both[0]);
  CHECK(with({"--prompt", "a b c", "--prompt", "d"}, "4") != both);
}

TEST_CASE("generate: each member of a federated ensemble is an adapter") {
  TinyModel model;
  std::string texts;
  for (const char* const text : {"a c e g i k", "b d f h j l", "a d g j m p", "z y x w v u"}) {
    for (int copy = 0; copy < 4; ++copy) texts += "{\"text\": \"" + std::string(text) + "\"}\n";
  }
  model.write("train.jsonl", texts);
  model.write("federation.toml", R"(seed = 2
[model]
path = "."
task = "causal-lm"
max_length = 16
[data]
train = "train.jsonl"
test = "train.jsonl"
[federation]
rounds = 2
[training]
method = "lora-ensemble"
rank = 4
alpha = 32
max_steps = 12
batch_size = 4
learning_rate = 5e-2
options = {members = 2}
[[clients]]
count = 2
[output]
dir = "run"
)");
  model.call({"simulate", (model.path() / "federation.toml").string(), "--device", "cpu"});
  const std::vector<std::string> greedy = {"--prompt",         "a c", "--temperature", "0",
                                           "--max-new-tokens", "6"};
  const auto ids_with = [&](const std::string& member) {
    std::vector<std::string> arguments = greedy;
    arguments.insert(arguments.end(),
                     {"--adapter", (model.path() / "run/global" / member).string()});
    return model.run(arguments).front().at("ids");
  };
  CHECK(ids_with("member-0") != model.run(greedy).front().at("ids"));
  const fs::path merged = model.path() / "merged";
  model.call({"merge", "--model", model.path().string(), "--adapter",
              (model.path() / "run/global/member-1").string(), "--out", merged.string()});
  CHECK(ids_with("member-1") == model.run_with(merged, greedy).front().at("ids"));
}

TEST_CASE("generate: what a person gets wrong is one line") {
  TinyModel model;
  const auto contains = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  CHECK(contains(model.refusal({"--prompt", "a", "--chat"}), "has no chat template"));
  CHECK(contains(model.refusal({"--prompt", "a", "--top-p", "0"}), "--top-p"));
  CHECK(contains(model.refusal({"--prompt", "a", "--dtype", "int4"}), "int4"));
  CHECK(contains(model.refusal({"--prompt-file", "nowhere.txt"}),
                 "--prompt-file nowhere.txt: no such file; name one with a prompt a line"));
  model.write("empty.txt", "\n\n");
  CHECK(contains(model.refusal({"--prompt-file", (model.path() / "empty.txt").string()}),
                 "empty.txt: no prompts; write one a line"));
}

TEST_CASE("generate: prompts of a file are named by file and line") {
  TinyModel model;
  model.write("prompts.txt", "a b\n\nc d\n");
  const std::string file = model.path() / "prompts.txt";
  test::Process process("drystone",
                        {"generate", "--model", model.path(), "--prompt", "e", "--prompt-file",
                         file, "--max-new-tokens", "1", "--log-level", "error"},
                        model.path() / "named");
  REQUIRE_MESSAGE(process.wait() == 0, process.output());
  for (const std::string& head : {std::string("--- prompt 1: e\n"), "--- " + file + ":1: a b\n",
                                  "--- " + file + ":3: c d\n"}) {
    CHECK_MESSAGE(process.output().find(head) != std::string::npos, process.output());
  }
}

TEST_CASE("generate: a text longer than the model was made for is told") {
  TinyModel model;  // 64 positions
  const auto said = [&](const char* tokens) {
    test::Process process("drystone",
                          {"generate", "--model", model.path(), "--prompt", "a b", "--device",
                           "cpu", "--max-new-tokens", tokens},
                          model.path() / (std::string("said") + tokens));
    CHECK_MESSAGE(process.wait() == 0, process.output());
    return process.output();
  };
  CHECK(said("70").find("max_new_tokens=70 positions=64") != std::string::npos);
  CHECK(said("20").find("positions=") == std::string::npos);
}

TEST_CASE("generate: stories260K streams the reference text") {
  const fs::path folder = kSource / "../shared/data/models/stories260K";
  if (!fs::exists(folder / "expected.json")) {
    MESSAGE("skipped: no " << folder.string());
    return;
  }
  const auto answer = nlohmann::json::parse(core::read_text_file(folder / "expected.json", 1 << 20))
                          .at("prompts")[0];
  const std::string prompt = answer.at("prompt");
  const std::string whole = answer.at("greedy_text");
  const std::size_t num_tokens = answer.at("greedy_ids").size() - answer.at("input_ids").size();
  const test::TemporaryFolder logs;
  test::Process process("drystone",
                        {"generate", "--model", folder.string(), "--prompt", prompt,
                         "--max-new-tokens", std::to_string(num_tokens), "--log-level", "error"},
                        logs.path() / "log");
  REQUIRE(process.wait() == 0);
  CHECK(prompt + process.output() == whole + "\n");
}
