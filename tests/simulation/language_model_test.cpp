// Federated language models: what a round of causal LM learns, and that it is the same however the
// samples lie in memory.

#include <cmath>
#include <fstream>
#include <sstream>

#include <doctest/doctest.h>

#include "cli/verify.h"
#include "tests/simulation/tiny_language_model.h"

using namespace drystone;
using test::TinyLanguageModel;
namespace fs = std::filesystem;

TEST_CASE("language model: a federation learns its roles' texts, and the run can be recomputed") {
  const TinyLanguageModel letters;
  const auto outcome = letters.run("run");
  const auto& before = *outcome.report.before;
  const auto& after = *outcome.report.after;
  CHECK(after.at("perplexity") < 0.6 * before.at("perplexity"));
  CHECK(after.at("perplexity") == doctest::Approx(std::exp(after.at("loss"))));
  CHECK(after.at("targets") == before.at("targets"));
  CHECK(outcome.report.rounds[1].exactness == "exact");
  CHECK(cli::verify_run(letters.path("run")).is_sound());
  CHECK(letters.run("again").report.head == outcome.report.head);
}

TEST_CASE("language model: packed rows hold every sample, and train as well") {
  const TinyLanguageModel letters;
  const auto plain = letters.run("plain");
  const auto packed = letters.run("packed", {"data.packing=true", "training.batch_size=2"});
  const auto& totals = packed.report.rounds[0];
  CHECK(totals.tokens == plain.report.rounds[0].tokens);
  CHECK(totals.client_steps < plain.report.rounds[0].client_steps);
  CHECK(packed.report.before->at("loss") ==
        doctest::Approx(plain.report.before->at("loss")).epsilon(1e-5));
  CHECK(packed.report.after->at("perplexity") < 0.7 * packed.report.before->at("perplexity"));
}

TEST_CASE("language model: clients that share passes learn what they learn alone") {
  const TinyLanguageModel letters;
  const auto alone = letters.run("alone");
  const auto grouped = letters.run("grouped", {"simulation.group=3", "simulation.workers=1"});
  const auto& totals = grouped.report.rounds[1];
  CHECK(totals.accepted == 3);
  CHECK(totals.tokens == alone.report.rounds[1].tokens);
  CHECK(grouped.report.after->at("loss") ==
        doctest::Approx(alone.report.after->at("loss")).epsilon(1e-3));
  CHECK(cli::verify_run(letters.path("grouped")).is_sound());
  CHECK(letters.run("again", {"simulation.group=3", "simulation.workers=4"}).report.head ==
        grouped.report.head);
  CHECK(letters.run("auto", {"simulation.group=auto", "simulation.workers=1"}).report.head ==
        grouped.report.head);
  CHECK(letters.run("busy", {"simulation.group=auto", "simulation.workers=4"}).report.head ==
        alone.report.head);
}

TEST_CASE("language model: examples in a mapped file give the run that examples in memory give") {
  const TinyLanguageModel letters;
  const auto in_memory = letters.run("memory");
  const auto streamed = letters.run(
      "streamed", {"data.streaming=true", "data.cache=" + letters.path("cache").string()});
  CHECK(streamed.report.rounds[0].tokens == in_memory.report.rounds[0].tokens);
  CHECK(streamed.report.after->at("loss") == in_memory.report.after->at("loss"));
  CHECK_FALSE(fs::is_empty(letters.path("cache")));
}

TEST_CASE("language model: observers hear which file became which client, streamed or not") {
  struct Owners final : coordinator::Observer {
    void on_dealt(const std::string& client, const std::string& keys, std::int64_t num_keys,
                  std::int64_t num_examples) override {
      CHECK(num_keys == 1);
      CHECK(num_examples == 120);
      all.push_back(client + " " + keys);
    }
    std::vector<std::string> all;
  };
  const TinyLanguageModel letters;
  fs::create_directories(letters.path("shards"));
  for (const char* const name : {"b.jsonl", "a.jsonl", "c.jsonl"}) {
    fs::copy_file(letters.path("train.jsonl"), letters.path("shards") / name);
  }
  for (const std::string streaming : {"false", "true"}) {
    Owners owners;
    const core::Config config = core::load_config(
        letters.path("federation.toml"),
        {"data.partition=by-file", "data.train=" + letters.path("shards").string(),
         "data.streaming=" + streaming, "federation.rounds=1", "training.max_steps=1"});
    simulation::simulate(config, {.run_dir = letters.path(streaming), .device = "cpu", .stop = {}},
                         {&owners});
    CHECK(owners.all ==
          std::vector<std::string>{"client-1 a.jsonl", "client-2 b.jsonl", "client-3 c.jsonl"});
  }
}

TEST_CASE("language model: a token without a row is named by file and line, streamed or not") {
  const TinyLanguageModel letters;
  std::ofstream(letters.path("model/vocab.txt"), std::ios::app) << "spare\nextra\n";
  std::ofstream(letters.path("train.jsonl"), std::ios::app)
      << R"({"text": "a extra", "role": "role-0"})" << "\n";
  for (const std::string streaming : {"false", "true"}) {
    CHECK_THROWS_WITH_AS(letters.run("run", {"data.streaming=" + streaming}),
                         doctest::Contains("train.jsonl:121: token \"extra\" has id 32"),
                         core::ConfigError);
  }
}

TEST_CASE("language model: 4-bit bases beside full precision, and the report says so") {
  const TinyLanguageModel letters;
  const auto outcome = letters.run("run", {"clients.1.quantization=nf4"});
  CHECK(outcome.report.after->at("loss") < outcome.report.before->at("loss"));
  const std::map<std::string, std::uint64_t> bases = {{"nf4", 2}, {"none", 1}};
  for (const auto& round : outcome.report.rounds) {
    CHECK(round.bases == bases);
    CHECK(round.exactness == "exact, each relative to its own base");
    CHECK(round.passes == round.client_steps);
  }
  std::ifstream file(letters.path("run") / "report.json");
  std::stringstream report;
  report << file.rdbuf();
  CHECK(report.str().find("\"nf4\": 2") != std::string::npos);
  CHECK(cli::verify_run(letters.path("run")).is_sound());
}

TEST_CASE("language model: stories260K on three of Shakespeare's roles") {
  const fs::path shared = fs::path(DRYSTONE_SOURCE_DIR) / "../shared/data/models/stories260K";
  if (!fs::exists(shared)) {
    MESSAGE("skipped: no " << shared.string());
    return;
  }
  const TinyLanguageModel letters;
  std::ofstream train(letters.path("speeches.jsonl"));
  const std::vector<std::vector<std::string>> roles = {
      {"What say you to my suit, fair lady?", "I would you were as I would have you be."},
      {"Now is the winter of our discontent", "A horse, a horse, my kingdom for a horse!"},
      {"O Romeo, Romeo, wherefore art thou?", "What light through yonder window breaks?"}};
  for (std::size_t role = 0; role < roles.size(); ++role) {
    for (int copy = 0; copy < 8; ++copy) {
      for (const std::string& speech : roles[role]) {
        train << R"({"text": ")" << speech << R"(", "role": ")" << role << "\"}\n";
      }
    }
  }
  train.close();
  const std::string speeches = letters.path("speeches.jsonl").string();
  const auto outcome = letters.run(
      "run", {"model.path=" + shared.string(), "model.max_length=64", "data.train=" + speeches,
              "data.test=" + speeches, "training.learning_rate=5e-3", "training.epochs=3"});
  CHECK(outcome.report.after->at("perplexity") < 0.6 * outcome.report.before->at("perplexity"));
}
