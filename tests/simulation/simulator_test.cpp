#include "simulation/simulator.h"

#include <fstream>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/mm.h>
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "cli/verify.h"
#include "tensors/factor_set_io.h"
#include "tensors/peft_io.h"
#include "tests/simulation/stop_after_first_version.h"
#include "tests/simulation/tiny_federation.h"

using namespace drystone;
using test::TinyFederation;
namespace fs = std::filesystem;

namespace {

std::string content(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  return text.str();
}

simulation::SimulationOutcome run(const TinyFederation& tiny, const std::string& out,
                                  const std::vector<std::string>& overrides = {},
                                  std::vector<coordinator::Observer*> observers = {},
                                  std::stop_token stop = {}) {
  return simulation::simulate(
      tiny.config(overrides),
      {.run_dir = tiny.path() / out, .device = "cpu", .stop = std::move(stop)},
      std::move(observers));
}

/// Σ over the rounds of the clients' weighted mean of one module, in float64.
at::Tensor clients_sum(const fs::path& run_dir, const std::string& module) {
  at::Tensor sum;
  for (const auto& version : fs::directory_iterator(run_dir / "versions")) {
    const auto record = nlohmann::json::parse(std::ifstream(version.path() / "version.json"));
    double examples = 0.0;
    for (const auto& update : record.at("updates"))
      examples += update.at("num_examples").get<double>();
    for (const auto& update : record.at("updates")) {
      const std::string client = update.at("client").get<std::string>();
      const tensors::FactorSetFile file(version.path() / "updates" / (client + ".safetensors"));
      const tensors::Factors own = file.module(module);
      const at::Tensor term = at::mm(own.b.to(at::kDouble), own.a.to(at::kDouble)) *
                              (update.at("num_examples").get<double>() / examples);
      sum = sum.defined() ? sum + term : term;
    }
  }
  return sum;
}

}  // namespace

TEST_CASE("simulate: a federation of mixed ranks and methods, evaluated before and after") {
  const TinyFederation tiny;
  const auto outcome = run(tiny, "run");
  REQUIRE_FALSE(outcome.failure.has_value());
  CHECK_FALSE(outcome.stopped);
  const auto& report = outcome.report;
  REQUIRE(report.rounds.size() == 2);
  CHECK(report.rounds[0].accepted == 4);
  CHECK(report.rounds[0].stack_rank == 4 + 2 + 2 + 1);
  CHECK(report.rounds[0].exactness == "exact");
  CHECK(report.before.has_value());
  CHECK(report.after->at("loss") < report.before->at("loss"));
  for (const char* file : {"config.toml", "report.json", "global/adapter_config.json",
                           "global/adapter_model.safetensors", "global/head.safetensors",
                           "global/labels.json", "versions/0002/version.json"}) {
    CAPTURE(file);
    CHECK(fs::exists(tiny.path() / "run" / file));
  }
}

TEST_CASE("simulate: twice gives the same files, whatever the number of workers") {
  const TinyFederation tiny;
  const auto first = run(tiny, "first", {"simulation.workers=1"});
  const auto second = run(tiny, "second", {"simulation.workers=3"});
  CHECK(first.report.head == second.report.head);
  for (const char* file :
       {"versions/0000/factors.safetensors", "versions/0001/factors.safetensors",
        "versions/0001/updates/client-3.safetensors", "versions/0001/version.json",
        "versions/0002/factors.safetensors", "versions/0002/version.json",
        "global/adapter_model.safetensors", "global/head.safetensors"}) {
    CAPTURE(file);
    const std::string expected = content(tiny.path() / "first" / file);
    CHECK(!expected.empty());
    CHECK(content(tiny.path() / "second" / file) == expected);
  }
}

TEST_CASE("simulate: another seed, another result") {
  const TinyFederation tiny;
  CHECK(run(tiny, "a").report.head != run(tiny, "b", {"seed=8"}).report.head);
}

TEST_CASE("simulate: stopped after a round and resumed ends in the same head") {
  const TinyFederation tiny;
  const auto whole = run(tiny, "whole", {"federation.rounds=3"});
  test::StopAfterFirstVersion stopper;
  const auto part =
      run(tiny, "parts", {"federation.rounds=3"}, {&stopper}, stopper.source.get_token());
  CHECK(part.stopped);
  CHECK(part.report.rounds.size() == 1);
  const auto rest = run(tiny, "parts", {"federation.rounds=3"});
  CHECK_FALSE(rest.stopped);
  CHECK(rest.report.head == whole.report.head);
}

TEST_CASE("simulate: a published version that was edited meanwhile is not trained from") {
  const TinyFederation tiny;
  test::StopAfterFirstVersion stopper;
  run(tiny, "run", {"federation.rounds=3"}, {&stopper}, stopper.source.get_token());
  for (const auto& version : fs::directory_iterator(tiny.path() / "run" / "versions")) {
    CAPTURE(version.path());
    const auto record = nlohmann::json::parse(std::ifstream(version.path() / "version.json"));
    const fs::path payload =
        tiny.path() / "run/state/blobs" / record.at("summary").at("payload").get<std::string>();
    const std::string whole = content(payload);
    std::string edited = whole;
    edited[edited.size() - 4] = static_cast<char>(edited[edited.size() - 4] ^ 1);  // of a float
    std::ofstream(payload, std::ios::binary) << edited;
    CHECK_THROWS_WITH_AS(run(tiny, "run", {"federation.rounds=3"}),
                         doctest::Contains("a published version is missing or damaged"),
                         core::IoError);
    std::ofstream(payload, std::ios::binary) << whole;
  }
  CHECK(run(tiny, "run", {"federation.rounds=3"}).report.head ==
        run(tiny, "whole", {"federation.rounds=3"}).report.head);
}

TEST_CASE("simulate: clients whose round is one step learn with the default schedule") {
  const TinyFederation tiny;
  const auto outcome =
      run(tiny, "run",
          {"training.batch_size=120", "training.max_steps=0", "federation.rounds=3",
           "training.learning_rate=1e-2", "training.dropout=0"});
  REQUIRE(outcome.report.rounds.size() == 3);
  for (const auto& round : outcome.report.rounds) {
    CHECK(round.client_steps == 4);
    CHECK(round.zero_updates.empty());
  }
  CHECK(outcome.report.after->at("loss") < outcome.report.before->at("loss") - 0.02);
}

TEST_CASE("simulate: a field that names clients is read where it partitions") {
  const TinyFederation tiny;
  run(tiny, "run", {"data.partition=iid", "data.partition_key=author", "federation.rounds=1"});
  CHECK_THROWS_WITH_AS(run(tiny, "by-key", {"data.partition=by-key", "data.partition_key=author"}),
                       doctest::Contains("no field \"author\""), core::ConfigError);
}

TEST_CASE("simulate: a slow machine changes nothing: nobody is late") {
  const TinyFederation tiny;
  const auto outcome =
      run(tiny, "run", {"federation.deadline=\"1ms\"", "federation.grace=\"1ms\""});
  REQUIRE(outcome.report.rounds.size() == 2);
  for (const auto& round : outcome.report.rounds) {
    CHECK(round.accepted == 4);
    CHECK(round.rejected.empty());
  }
}

TEST_CASE("simulate: updates of zeros are counted and named") {
  const TinyFederation tiny;
  const auto outcome = run(tiny, "run", {"clients.1.learning_rate=1e-30"});
  CHECK(outcome.report.rounds[0].accepted == 4);
  CHECK(outcome.report.rounds[0].zero_updates == std::vector<std::string>{"client-2", "client-3"});
  CHECK(outcome.report.rounds[0].exactness == "exact");
}

TEST_CASE("simulate: a client that diverges says so, and the round goes on without it") {
  const TinyFederation tiny;
  const auto outcome = run(tiny, "run", {"clients.2.learning_rate=1e30", "federation.quorum=3"});
  REQUIRE_FALSE(outcome.failure.has_value());
  REQUIRE(outcome.report.rounds.size() == 2);
  for (const auto& round : outcome.report.rounds) {
    CHECK(round.asked == 4);
    CHECK(round.accepted == 3);
    CHECK(round.rejected == std::map<std::string, std::uint64_t>{{"training-failed", 1}});
  }
  CHECK(outcome.report.after->at("loss") < outcome.report.before->at("loss"));
}

TEST_CASE("simulate: a published version is the weighted sum of the clients' own updates") {
  const TinyFederation tiny;
  run(tiny, "run");
  const fs::path version = tiny.path() / "run" / "versions" / "0001";
  const auto published = tensors::read_factor_set(version / "factors.safetensors");
  std::map<std::string, at::Tensor> expected;
  double total = 0.0;
  for (const char* client : {"client-1", "client-2", "client-3", "client-4"}) {
    const auto update =
        tensors::read_factor_set(version / "updates" / (std::string(client) + ".safetensors"));
    std::ifstream record(version / "version.json");
    std::ostringstream text;
    text << record.rdbuf();
    const std::string json = text.str();
    const auto at =
        json.find("\"num_examples\": ", json.find(std::string("\"client\": \"") + client));
    const double weight = std::stod(json.substr(at + 16, 12));
    total += weight;
    for (const auto& [name, factors] : update.modules) {
      const at::Tensor delta = factors.product().to(at::kDouble) * weight;
      expected[name] = expected.contains(name) ? expected[name] + delta : delta;
    }
  }
  CHECK(total == 120.0);
  REQUIRE(published.modules.size() == expected.size());
  for (const auto& [name, sum] : expected) {
    CAPTURE(name);
    const at::Tensor actual = published.modules.at(name).product().to(at::kDouble);
    CHECK(at::allclose(actual, sum / total, /*rtol=*/1e-5, /*atol=*/1e-7));
  }
}

TEST_CASE("simulate: the averaging baselines run, and fedit refuses unequal ranks") {
  const TinyFederation tiny;
  const auto padded = run(tiny, "zero-pad", {"aggregation.rule=\"zero-pad\""});
  CHECK(padded.report.rounds[1].exactness == "inexact, factors averaged");
  CHECK(padded.report.after->at("loss") < padded.report.before->at("loss"));
  CHECK_THROWS_WITH_AS(run(tiny, "fedit", {"aggregation.rule=\"fedit\""}),
                       doctest::Contains("ranks 1, 2, 4"), core::ConfigError);
}

TEST_CASE("simulate: clients that adapt different modules stack in one round") {
  const TinyFederation tiny;
  const auto outcome = run(
      tiny, "run",
      {"clients.0.target_modules=[\"query\"]", "clients.1.target_modules=[\"query\", \"value\"]",
       "clients.2.target_modules=[\"dense\"]"});
  CHECK(outcome.report.rounds[1].accepted == 4);
  CHECK(outcome.report.rounds[1].exactness == "exact");
  CHECK(cli::verify_run(tiny.path() / "run").is_sound());
  CHECK_THROWS_WITH_AS(
      run(tiny, "zero-pad",
          {"aggregation.rule=\"zero-pad\"", "clients.0.target_modules=[\"query\"]"}),
      doctest::Contains("target_modules"), core::ConfigError);
}

TEST_CASE("simulate: 4-bit and full-precision bases train in one round, exactly stacked") {
  const TinyFederation tiny;
  const auto outcome = run(tiny, "run", {"clients.1.quantization=nf4", "federation.rounds=3"});
  CHECK(outcome.report.rounds[2].accepted == 4);
  CHECK(outcome.report.rounds[2].exactness == "exact, each relative to its own base");
  CHECK(outcome.report.after->at("loss") < outcome.report.before->at("loss"));
  CHECK(cli::verify_run(tiny.path() / "run").is_sound());
  const auto all = run(tiny, "all", {"model.quantization=nf4"});
  CHECK(all.report.after->at("loss") < all.report.before->at("loss"));
  CHECK(all.report.head != run(tiny, "plain").report.head);
}

TEST_CASE("simulate: a folder of files, one a client") {
  const TinyFederation tiny;
  const std::string lines = content(tiny.path() / "train.jsonl");
  const fs::path folder = tiny.path() / "shards";
  fs::create_directories(folder);
  std::istringstream rows(lines);
  std::vector<std::ofstream> files;
  for (const char* name : {"c1.jsonl", "c2.jsonl", "c3.jsonl", "c4.jsonl"}) {
    files.emplace_back(folder / name);
  }
  std::size_t count = 0;
  for (std::string row; std::getline(rows, row); ++count) files[count % 4] << row << '\n';
  files.clear();
  std::ofstream(folder / "test.jsonl") << lines;  // does not fit the pattern
  const auto outcome =
      run(tiny, "run", {"data.train=" + (folder / "c*.jsonl").string(), "data.partition=by-file"});
  CHECK(outcome.report.rounds[0].accepted == 4);
  CHECK_THROWS_WITH_AS(
      run(tiny, "none", {"data.train=" + (folder / "d*").string(), "data.partition=by-file"}),
      doctest::Contains("no data file"), core::ConfigError);
  CHECK_THROWS_WITH_AS(
      run(tiny, "few", {"data.train=" + (folder / "c1*").string(), "data.partition=by-file"}),
      "data.train: 1 files with records for 4 clients; lower the clients' count to 1",
      core::ConfigError);
}

TEST_CASE("simulate: cut compaction carries the rest over, and the run can still be recomputed") {
  const TinyFederation tiny;
  const auto outcome = run(tiny, "run", {"aggregation.compaction={rank=2}", "federation.rounds=3"});
  for (std::size_t round = 0; round < 2; ++round) {
    CHECK(outcome.report.rounds[round].compact_rank == 2);
    CHECK(outcome.report.rounds[round].relative_error > 0.0);
    CHECK(outcome.report.rounds[round].exactness.ends_with("carried over"));
  }
  CHECK(outcome.report.rounds[2].exactness == "exact");  // nobody is left to carry it on
  CHECK(outcome.report.rounds[2].relative_error == 0.0);
  const tensors::FactorSet global = tensors::read_peft(tiny.path() / "run/global");
  for (const auto& [name, factors] : global.modules) {
    CAPTURE(name);
    const at::Tensor expected = clients_sum(tiny.path() / "run", name);
    CHECK((factors.product().to(at::kDouble) - expected).norm().item<double>() <=
          1e-6 * expected.norm().item<double>());
  }
  const auto verification = cli::verify_run(tiny.path() / "run");
  REQUIRE(verification.versions.size() == 4);
  for (const auto& check : verification.versions) {
    CAPTURE(check.version);
    CHECK(check.wrong.value_or("") == "");
    CHECK((check.version == 0 || check.recomputed));
  }
}

TEST_CASE("verify: every kind of tampering with a run folder is found") {
  const TinyFederation tiny;
  run(tiny, "run");
  const fs::path run_dir = tiny.path() / "run";
  CHECK(cli::verify_run(run_dir).is_sound());
  const auto flip = [&](const fs::path& file, std::size_t from_end) {
    // The blob store shares the inode: break the link before changing the copy.
    const std::string bytes = content(file);
    fs::remove(file);
    std::string changed = bytes;
    changed[changed.size() - from_end] ^= 1;
    std::ofstream(file, std::ios::binary) << changed;
    const bool sound = cli::verify_run(run_dir).is_sound();
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
    return sound;
  };
  CHECK_FALSE(flip(run_dir / "versions/0001/factors.safetensors", 1));
  CHECK_FALSE(flip(run_dir / "versions/0001/updates/client-2.safetensors", 1));
  CHECK(cli::verify_run(run_dir).is_sound());
  CHECK_FALSE(flip(run_dir / "versions/0001/version.json", 3));  // no JSON any more
  fs::rename(run_dir / "versions/0001/version.json", run_dir / "version.json");
  const auto missing = cli::verify_run(run_dir);
  CHECK(missing.versions[1].wrong.has_value());
  fs::rename(run_dir / "version.json", run_dir / "versions/0001/version.json");
  const fs::path config = run_dir / "config.toml";
  const std::string text = content(config);
  std::ofstream(config, std::ios::trunc) << text.substr(0, text.find("seed = 7")) << "seed = 8"
                                         << text.substr(text.find("seed = 7") + 8);
  CHECK_FALSE(cli::verify_run(run_dir).is_sound());
}
