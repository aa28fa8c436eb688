// A federation's posterior: collected by clients that never trained, equal to a centralised one;
// and federations that start from an adapter.

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "cli/verify.h"
#include "core/error.h"
#include "evaluation/evaluate.h"
#include "simulation/simulator.h"
#include "tensors/factor_set_io.h"
#include "tensors/peft_io.h"
#include "tests/simulation/tiny_federation.h"

using namespace drystone;
using test::TinyFederation;
namespace fs = std::filesystem;

namespace {

simulation::SimulationOutcome run(const TinyFederation& tiny, const std::string& folder,
                                  std::vector<std::string> overrides = {}) {
  overrides.push_back("output.dir=" + (tiny.path() / folder).string());
  return simulation::simulate(tiny.config(overrides),
                              {.run_dir = tiny.path() / folder, .device = "cpu", .stop = {}}, {});
}

/// A federation that trained, and its global adapter.
struct Trained {
  TinyFederation tiny;
  simulation::SimulationOutcome outcome = run(tiny, "trained");
  fs::path adapter = tiny.path() / "trained/global";
};

std::string observers(int count) { return "[[clients]]\ncount = " + std::to_string(count) + "\n"; }

std::vector<std::string> posterior_overrides(const fs::path& adapter) {
  return {"model.adapter=" + adapter.string(), "training.method=laplace-lora", "training.rank=4",
          "federation.rounds=1", "data.partition=iid"};
}

nlohmann::json read_json(const fs::path& file) {
  return nlohmann::json::parse(std::ifstream(file));
}

evaluation::EvaluateOptions options_for(const TinyFederation& tiny, const fs::path& global) {
  evaluation::EvaluateOptions options{.model = tiny.path() / "model",
                                      .adapter = {},
                                      .data = tiny.path() / "test.jsonl",
                                      .max_length = 8,
                                      .device = "cpu"};
  options.posterior = global;
  return options;
}

}  // namespace

TEST_CASE("posterior: ten clients that never trained collect what one with all data does") {
  const Trained trained;
  const TinyFederation ten(observers(10));
  const TinyFederation one(observers(1));
  const auto federated = run(ten, "run", posterior_overrides(trained.adapter));
  const auto central = run(one, "run", posterior_overrides(trained.adapter));
  REQUIRE_FALSE(federated.failure.has_value());
  REQUIRE(federated.report.rounds[0].accepted == 10);
  const auto read = [](const TinyFederation& tiny) {
    return tensors::read_factor_set(tiny.path() / "run/global/posterior.safetensors");
  };
  const tensors::FactorSet all = read(ten);
  const tensors::FactorSet expected = read(one);
  REQUIRE(all.dense.size() == expected.dense.size());
  REQUIRE(all.dense.size() > 10);
  for (const auto& [name, tensor] : expected.dense) {
    CAPTURE(name);
    const double error = (all.dense.at(name) - tensor).norm().item<double>();
    CHECK(error <= 1e-5 * tensor.norm().item<double>());
  }
  for (const auto& [name, factors] : expected.modules) {
    CHECK(at::equal(all.modules.at(name).a, factors.a));
    CHECK(at::equal(all.modules.at(name).b, factors.b));
  }
  const auto about = read_json(ten.path() / "run/global/posterior.json");
  CHECK(about.at("examples") == 120);
  CHECK(about.at("rank") == 4);
  CHECK(cli::verify_run(ten.path() / "run").is_sound());
  // The model stays the one that was trained, before and after.
  const auto& before = trained.outcome.report.after;
  CHECK(federated.report.before->at("loss") == doctest::Approx(before->at("loss")).epsilon(1e-4));
  CHECK(federated.report.after->at("loss") == doctest::Approx(before->at("loss")).epsilon(1e-4));

  const auto predicted = evaluation::evaluate(options_for(ten, ten.path() / "run/global"), {});
  const auto centrally = evaluation::evaluate(options_for(one, one.path() / "run/global"), {});
  CHECK(predicted.metrics.at("nll") == doctest::Approx(before->at("nll")).epsilon(1e-4));
  REQUIRE(predicted.predictives.size() == 10);
  for (std::size_t i = 0; i < 10; ++i) {
    const auto& [name, metrics] = predicted.predictives[i];
    CAPTURE(name);
    CHECK(metrics.at("nll") ==
          doctest::Approx(centrally.predictives[i].second.at("nll")).epsilon(1e-3));
  }
}

TEST_CASE("posterior: the prior by validation, a number, a temperature and dropout") {
  const Trained trained;
  const TinyFederation tiny(observers(3));
  run(tiny, "run", posterior_overrides(trained.adapter));
  evaluation::EvaluateOptions options = options_for(tiny, tiny.path() / "run/global");
  options.samples = 200;
  options.validation = tiny.path() / "train.jsonl";
  options.mc_dropout = 3;
  options.prior = "validation";
  const auto measured = evaluation::evaluate(options, {});
  CHECK(measured.predictives.size() == 12);
  CHECK(measured.metrics.at("temperature") > 0.0);
  CHECK(measured.predictions.size() == 40);
  options.prior = "1e13";
  const auto sure = evaluation::evaluate(options, {});
  for (const auto& [name, metrics] : sure.predictives) {
    if (!name.ends_with(".mc") && !name.ends_with(".probit")) continue;
    CHECK(metrics.at("nll") == doctest::Approx(sure.metrics.at("nll")).epsilon(1e-4));
  }
  options.prior = "none";
  CHECK_THROWS_WITH_AS(evaluation::evaluate(options, {}), doctest::Contains("--prior"),
                       core::ConfigError);
  options.prior = "validation";
  options.validation.clear();
  CHECK_THROWS_WITH_AS(evaluation::evaluate(options, {}), doctest::Contains("--validation"),
                       core::ConfigError);
  options.posterior = trained.adapter;
  CHECK_THROWS_WITH_AS(evaluation::evaluate(options, {}), doctest::Contains("laplace-lora"),
                       core::IoError);
}

TEST_CASE("posterior: federations that cannot collect one are refused") {
  const Trained trained;
  const TinyFederation tiny(observers(2));
  const auto refused = [&](const std::string& override, const char* key) {
    auto overrides = posterior_overrides(trained.adapter);
    overrides.push_back(override);
    CHECK_THROWS_WITH_AS(run(tiny, "refused", overrides), doctest::Contains(key),
                         core::ConfigError);
  };
  refused("federation.rounds=2", "federation.rounds");
  refused("aggregation.rule=\"zero-pad\"", "aggregation.rule");
  refused("aggregation.weights=\"uniform\"", "aggregation.weights");
  refused("model.adapter=\"\"", "model.adapter");
  const TinyFederation mixed("[[clients]]\n[[clients]]\nrank = 2\n");
  CHECK_THROWS_WITH_AS(run(mixed, "refused", posterior_overrides(trained.adapter)),
                       doctest::Contains("does not train"), core::ConfigError);
}

TEST_CASE("model.adapter: a federation goes on where another one ended") {
  const Trained trained;
  const double loss = trained.outcome.report.after->at("loss");
  for (const char* rule : {"flora", "zero-pad"}) {
    CAPTURE(rule);
    const TinyFederation tiny;
    const auto outcome = run(tiny, "run",
                             {"model.adapter=" + trained.adapter.string(),
                              "aggregation.rule=" + std::string(rule), "training.method=lora"});
    REQUIRE_FALSE(outcome.failure.has_value());
    CHECK(outcome.report.before->at("loss") == doctest::Approx(loss).epsilon(1e-4));
    CHECK(outcome.report.after->at("loss") < 1.1 * loss);
    CHECK(cli::verify_run(tiny.path() / "run").is_sound());
    const auto version = read_json(tiny.path() / "run/versions/0000/version.json");
    CHECK(version.dump().find(std::string(rule) == "flora" ? "\"add\"" : "\"replace\"") !=
          std::string::npos);
  }
}

TEST_CASE("model.adapter: modules outside target_modules stay part of the function") {
  const Trained trained;
  const double loss = trained.outcome.report.after->at("loss");
  const auto modules = [](const fs::path& adapter) { return tensors::read_peft(adapter).modules; };
  const TinyFederation tiny(observers(3));
  const auto with = [&](const std::string& method, const std::string& rule) {
    return std::vector<std::string>{
        "model.adapter=" + trained.adapter.string(), "training.target_modules=[\"query\"]",
        "aggregation.rule=" + rule, "training.method=" + method, "federation.rounds=1"};
  };
  for (const std::string method : {"lora", "laplace-lora"}) {
    CAPTURE(method);
    const auto outcome = run(tiny, method, with(method, "flora"));
    REQUIRE_FALSE(outcome.failure.has_value());
    CHECK(outcome.report.before->at("loss") == doctest::Approx(loss).epsilon(1e-4));
    CHECK(outcome.report.after->at("loss") < 1.02 * loss);
    CHECK(cli::verify_run(tiny.path() / method).is_sound());
    CHECK(modules(tiny.path() / method / "global").size() == modules(trained.adapter).size());
  }
  CHECK_THROWS_WITH_AS(run(tiny, "averaged", with("lora", "zero-pad")),
                       doctest::Contains("\"zero-pad\" would drop it"), core::ConfigError);
}

TEST_CASE("model.adapter: another model's adapter and other classes are refused") {
  const Trained trained;
  const TinyFederation tiny;
  const std::string key = "model.adapter=" + trained.adapter.string();
  CHECK_THROWS_WITH_AS(
      run(tiny, "run", {key, "data.labels=[\"class-2\", \"class-1\", \"class-0\"]"}),
      doctest::Contains("other classes"), core::ConfigError);
  tensors::FactorSet foreign = tensors::read_peft(trained.adapter);
  foreign.modules["bert.no.such.layer"] = foreign.modules.begin()->second;
  const fs::path folder = tiny.path() / "foreign";
  tensors::write_peft(folder, foreign);
  CHECK_THROWS_WITH_AS(run(tiny, "run", {"model.adapter=" + folder.string()}),
                       doctest::Contains("does not fit the model"), core::ConfigError);
}
