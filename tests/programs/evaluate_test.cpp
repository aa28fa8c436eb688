// drystone evaluate on real data sets: scikit-learn and SciPy compute the same metrics from the
// predictions. The models know nothing; the metrics must be right all the same.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "tests/programs/oracle.h"
#include "tests/programs/process.h"
#include "tests/simulation/tiny_federation.h"

using namespace drystone;
namespace fs = std::filesystem;

namespace {

const fs::path kShared = fs::path(DRYSTONE_SOURCE_DIR) / "../shared/data";

bool present(const fs::path& file) {
  if (fs::exists(file)) return true;
  MESSAGE("skipped: no " << file.string());
  return false;
}

struct Run {
  std::string task;
  fs::path model;
  fs::path data;
  std::vector<std::string> more;
};

/// Runs `drystone evaluate`, then the oracle on what it wrote.
void check(const Run& run, const fs::path& folder) {
  CAPTURE(run.data.string());
  static const test::Oracle oracle("evaluate_check", "scipy, sklearn");
  const fs::path predictions = folder / "predictions.jsonl";
  const fs::path log = folder / "evaluate.log";
  fs::remove(log);
  fs::remove(predictions);
  std::vector<std::string> arguments = {
      "evaluate",    "--model", run.model.string(), "--data",        run.data.string(),
      "--task",      run.task,  "--json",           "--predictions", predictions.string(),
      "--log-level", "error"};
  arguments.insert(arguments.end(), run.more.begin(), run.more.end());
  test::Process process("drystone", arguments, log);
  REQUIRE(process.wait() == 0);
  const std::string output = process.output();
  const std::size_t begin = output.rfind("\n{\n");  // progress lines come before
  std::ofstream(folder / "report.json")
      << output.substr(begin == std::string::npos ? output.find("{\n") : begin);
  CHECK(fs::file_size(predictions) > 0);
  if (!oracle.works()) {
    MESSAGE("not compared: scipy and scikit-learn are not in .venv");
    return;
  }
  CHECK(
      oracle.run(run.task + " " + predictions.string() + " " + (folder / "report.json").string()));
}

}  // namespace

/// The model with the first of its head's three rows for a head: the others get another name.
void make_regression_head(const fs::path& model, const fs::path& out) {
  fs::copy(model, out);
  std::ifstream file(model / "model.safetensors", std::ios::binary);
  std::uint64_t length = 0;
  file.read(reinterpret_cast<char*>(&length), sizeof(length));
  std::string header(length, ' ');
  file.read(header.data(), static_cast<std::streamsize>(length));
  auto json = nlohmann::json::parse(header);
  for (const auto& [name, rest] :
       {std::pair("classifier.weight", 4 * 12), std::pair("classifier.bias", 4)}) {
    auto first = json[name];
    const std::uint64_t begin = first["data_offsets"][0];
    json["rest." + std::string(name)] = first;
    json["rest." + std::string(name)]["shape"][0] = 2;
    json["rest." + std::string(name)]["data_offsets"][0] = begin + rest;
    json[name]["shape"][0] = 1;
    json[name]["data_offsets"][1] = begin + rest;
  }
  header = json.dump();
  length = header.size();
  std::ofstream written(out / "model.safetensors", std::ios::binary | std::ios::trunc);
  written.write(reinterpret_cast<const char*>(&length), sizeof(length));
  written << header << file.rdbuf();
}

TEST_CASE("drystone evaluate: classification and regression, as scikit-learn and SciPy") {
  const test::TinyFederation tiny;
  const fs::path model = tiny.path() / "model";
  make_regression_head(model, tiny.path() / "regression");
  const auto run = [&](const std::string& task, const fs::path& data,
                       const std::vector<std::string>& more) {
    std::vector<std::string> all = {"--max-length", "8"};
    all.insert(all.end(), more.begin(), more.end());
    check({.task = task,
           .model = task == "regression" ? tiny.path() / "regression" : model,
           .data = data,
           .more = all},
          tiny.path());
  };
  run("classification", tiny.path() / "test.jsonl", {"--labels", "class-0,class-1,class-2"});
  const fs::path glue = kShared / "datasets/glue";
  if (!present(glue)) return;
  run("classification", glue / "sst2_dev.jsonl.gz", {"--text-field", "sentence"});
  run("classification", glue / "sst2_dev.jsonl.gz",
      {"--text-field", "sentence", "--max-examples", "100", "--batch-size", "3"});
  run("regression", glue / "stsb_dev.jsonl.gz",
      {"--text-field", "sentence1", "--text-pair-field", "sentence2", "--label-field", "score"});
}

TEST_CASE("drystone evaluate: predictions go to a new file, in folders that are made") {
  const test::TinyFederation tiny;
  const fs::path predictions = tiny.path() / "new" / "predictions.jsonl";
  const auto evaluate = [&] {
    return test::Process(
        "drystone",
        {"evaluate", "--model", tiny.path() / "model", "--data", tiny.path() / "test.jsonl",
         "--max-length", "8", "--labels", "class-0,class-1,class-2", "--predictions", predictions},
        tiny.path() / "evaluate.log");
  };
  test::Process first = evaluate();
  CHECK_MESSAGE(first.wait() == 0, first.output());
  const auto written = fs::file_size(predictions);
  CHECK(written > 0);
  std::ofstream(predictions, std::ios::app) << "mine";
  test::Process second = evaluate();
  CHECK(second.wait() == 2);
  CHECK(second.output().find("predictions.jsonl: exists already; choose another --predictions") !=
        std::string::npos);
  CHECK(fs::file_size(predictions) == written + 4);
}

TEST_CASE("drystone evaluate: takes the run's own max_length, and everybody tells what is cut") {
  const test::TinyFederation tiny;
  test::Process simulate("drystone",
                         {"simulate", tiny.config_file(), "--set", "model.max_length=4"},
                         tiny.path() / "simulate.log");
  REQUIRE_MESSAGE(simulate.wait() == 0, simulate.output());
  const std::string said = simulate.output();
  for (const char* part : {"texts are cut to max_length", "of=client-1", "of=test"}) {
    CAPTURE(said);
    CHECK(said.find(part) != std::string::npos);
  }
  const auto report = nlohmann::json::parse(std::ifstream(tiny.path() / "run" / "report.json"));
  const auto measured_loss = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"evaluate",
                                          "--model",
                                          tiny.path() / "model",
                                          "--adapter",
                                          tiny.path() / "run/global",
                                          "--data",
                                          tiny.path() / "test.jsonl",
                                          "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const fs::path log = tiny.path() / "evaluate.log";
    fs::remove(log);
    test::Process process("drystone", arguments, log);
    REQUIRE_MESSAGE(process.wait() == 0, process.output());
    const std::string output = process.output();
    CHECK((output.find("texts are cut to max_length") != std::string::npos) == more.empty());
    return nlohmann::json::parse(output.substr(output.find("{\n"))).at("loss").get<double>();
  };
  const double as_run = measured_loss({});
  CHECK(as_run == doctest::Approx(report.at("after").at("loss").get<double>()).epsilon(1e-5));
  CHECK(measured_loss({"--max-length", "8"}) != doctest::Approx(as_run).epsilon(1e-4));
}

TEST_CASE("drystone evaluate: what is cut from a language model's questions is told as well") {
  const test::TemporaryFolder folder;
  const fs::path fixture = fs::path(DRYSTONE_SOURCE_DIR) / "tests/models/fixtures/decoders/llama";
  for (const char* const file : {"config.json", "model.safetensors"}) {
    fs::copy_file(fixture / file, folder.path() / file);
  }
  std::string vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  for (char word = 'a'; word <= 'z'; ++word) vocabulary += std::string(1, word) + "\n";
  folder.write("vocab.txt", vocabulary);
  const fs::path questions = folder.path() / "questions.jsonl";
  std::ofstream(questions) << R"({"question": "a c e g i k", "choices": ["g", "h"], "answer": "0"})"
                           << '\n'
                           << R"({"question": "b", "choices": ["k", "x"], "answer": "0"})" << '\n';
  const auto said = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {
        "evaluate", "--model", folder.path(), "--data", questions, "--max-length", "5"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const fs::path log = folder.path() / "evaluate.log";
    fs::remove(log);
    test::Process process("drystone", arguments, log);
    REQUIRE_MESSAGE(process.wait() == 0, process.output());
    return process.output();
  };
  const std::string choices = said({"--task", "multiple-choice"});
  CHECK_MESSAGE(choices.find("cut=2 examples=4") != std::string::npos, choices);
  const std::string answers = said({"--task", "exact-match", "--template", "{question}",
                                    "--answer-field", "answer", "--max-new-tokens", "2"});
  CHECK_MESSAGE(answers.find("cut=1 examples=2") != std::string::npos, answers);
}

TEST_CASE("drystone evaluate: perplexity, multiple choice and exact match of a language model") {
  const fs::path model = kShared / "models/stories260K";
  const fs::path sets = kShared / "datasets";
  if (!present(model) || !present(sets)) return;
  const test::TemporaryFolder folder;
  const auto run = [&](const std::string& task, const fs::path& data,
                       const std::vector<std::string>& more) {
    check({.task = task, .model = model, .data = data, .more = more}, folder.path());
  };
  run("causal-lm", sets / "gsm8k/test.jsonl.gz", {"--template", "plain", "--max-examples", "30"});
  run("causal-lm", sets / "gsm8k/test.jsonl.gz",
      {"--template", "alpaca", "--max-examples", "20", "--loss-on", "all", "--max-length", "200"});
  for (const char* const style : {"text", "letters"}) {
    run("multiple-choice", sets / "mmlu/mmlu.jsonl.gz",
        {"--choices", style, "--max-examples", "60"});
  }
  run("exact-match", sets / "gsm8k/test.jsonl.gz",
      {"--template", "Question: {question}\nAnswer: ", "--answer-field", "answer", "--max-examples",
       "6", "--max-new-tokens", "16"});
}
