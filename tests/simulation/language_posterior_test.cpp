// A language model's posterior: collected by a federation, predicted with token by token and among
// the answers of multiple choice.

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <doctest/doctest.h>

#include "cli/verify.h"
#include "core/error.h"
#include "evaluation/evaluate.h"
#include "tensors/factor_set_io.h"
#include "tests/simulation/tiny_language_model.h"

using namespace drystone;
using test::TinyLanguageModel;
namespace fs = std::filesystem;

namespace {

/// A federation that trained, and one of `clients` that then collected the posterior.
struct Collected {
  TinyLanguageModel trained;
  TinyLanguageModel observers;
  simulation::SimulationOutcome training = trained.run("run");
  simulation::SimulationOutcome outcome;

  explicit Collected(int clients)
      : observers("[[clients]]\ncount = " + std::to_string(clients) + "\n"),
        outcome(observers.run("run", {"model.adapter=" + trained.path("run/global").string(),
                                      "training.method=laplace-lora", "federation.rounds=1",
                                      "training.options.labels=\"sampled\"",
                                      "data.partition=\"iid\"", "data.partition_key=\"\""})) {}

  evaluation::EvaluateOptions options(const std::string& task = "causal-lm") const {
    evaluation::EvaluateOptions options{.model = observers.path("model"),
                                        .adapter = {},
                                        .data = observers.path("test.jsonl"),
                                        .task = task,
                                        .max_length = 24,
                                        .device = "cpu"};
    options.posterior = observers.path("run/global");
    options.samples = 6;
    return options;
  }
  /// What comes after three letters of one step: two to four answers.
  fs::path questions() const {
    const fs::path file = observers.path("questions.jsonl");
    std::ofstream(file)
        << R"({"question": "a c e", "choices": ["g", "h", "m"], "answer": 0})" << '\n'
        << R"({"question": "b e h", "choices": ["k", "x"], "answer": 0})" << '\n'
        << R"({"question": "a e i", "choices": ["b", "m q", "z", "c"], "answer": 1})" << '\n';
    return file;
  }
};

double of(const evaluation::Measurement& measurement, const std::string& name, const char* metric) {
  for (const auto& [own, metrics] : measurement.predictives) {
    if (own == name) return metrics.at(metric);
  }
  FAIL("no predictive " << name);
  return 0.0;
}

}  // namespace

TEST_CASE("language posterior: ten clients collect what one does, and predict as it would") {
  const Collected ten(10);
  const Collected one(1);
  REQUIRE_FALSE(ten.outcome.failure.has_value());
  REQUIRE(ten.outcome.report.rounds[0].accepted == 10);
  const auto read = [](const Collected& collected) {
    return tensors::read_factor_set(collected.observers.path("run/global/posterior.safetensors"));
  };
  const tensors::FactorSet all = read(ten);
  const tensors::FactorSet expected = read(one);
  REQUIRE(all.dense.size() == expected.dense.size());
  for (const auto& [name, tensor] : expected.dense) {
    CAPTURE(name);
    const double error = (all.dense.at(name) - tensor).norm().item<double>();
    CHECK(error <= 1e-5 * tensor.norm().item<double>());
  }
  CHECK(cli::verify_run(ten.observers.path("run")).is_sound());

  const auto predicted = evaluation::evaluate(ten.options(), {});
  const auto centrally = evaluation::evaluate(one.options(), {});
  evaluation::EvaluateOptions plain = ten.options();
  plain.posterior.clear();
  plain.adapter = ten.trained.path("run/global");
  const auto trained = evaluation::evaluate(plain, {});
  CHECK(predicted.num_examples == trained.num_examples);
  for (const char* name : {"loss", "perplexity", "targets"}) {
    CAPTURE(name);
    CHECK(predicted.metrics.at(name) == doctest::Approx(trained.metrics.at(name)).epsilon(1e-4));
  }
  CHECK(of(predicted, "laplace.mc", "nll") ==
        doctest::Approx(of(centrally, "laplace.mc", "nll")).epsilon(1e-3));
  CHECK(of(predicted, "laplace.mc", "nll") != doctest::Approx(of(predicted, "map", "nll")));
  REQUIRE(predicted.predictions.size() == trained.predictions.size());
  double sum = 0.0;
  for (std::size_t i = 0; i < trained.predictions.size(); ++i) {
    const auto& own = predicted.predictions[i];
    CHECK(own.at("example") == trained.predictions[i].at("example"));
    CHECK(own.at("targets") == trained.predictions[i].at("targets"));
    sum += own.at("predictives").at("laplace.mc").get<double>();
  }
  CHECK(sum / predicted.metrics.at("targets") ==
        doctest::Approx(of(predicted, "laplace.mc", "nll")).epsilon(1e-6));
}

TEST_CASE("language posterior: a strong prior is the MAP; temperature and prior by validation") {
  const Collected collected(2);
  evaluation::EvaluateOptions options = collected.options();
  options.prior = "1e13";
  options.batch_size = 7;
  const auto sure = evaluation::evaluate(options, {});
  for (const char* metric : {"accuracy", "nll", "ece", "brier", "perplexity"}) {
    CAPTURE(metric);
    CHECK(of(sure, "laplace.mc", metric) == doctest::Approx(of(sure, "map", metric)).epsilon(1e-5));
  }
  options.prior = "validation";
  CHECK_THROWS_WITH_AS(evaluation::evaluate(options, {}), doctest::Contains("--validation"),
                       core::ConfigError);
  options.validation = collected.observers.path("test.jsonl");
  const auto fitted =
      evaluation::evaluate(options, {});  // on the same texts: no worse than MAP there
  REQUIRE(fitted.predictives.size() == 3);
  CHECK(of(fitted, "temperature", "nll") <= of(fitted, "map", "nll") + 1e-6);
  CHECK(of(fitted, "laplace.mc", "nll") <= 1.001 * of(fitted, "map", "nll"));
  CHECK(of(fitted, "temperature", "accuracy") == of(fitted, "map", "accuracy"));
  CHECK(fitted.metrics.at("temperature") > 0.1);
  CHECK(fitted.metrics.contains("laplace.log_evidence"));
}

TEST_CASE("language posterior: multiple choice has the answers for classes") {
  const Collected collected(2);
  evaluation::EvaluateOptions options = collected.options("multiple-choice");
  options.data = collected.questions();
  options.samples = 2000;
  evaluation::EvaluateOptions plain = options;
  plain.posterior.clear();
  plain.adapter = collected.trained.path("run/global");
  const auto trained = evaluation::evaluate(plain, {});
  const auto measured = evaluation::evaluate(options, {});
  REQUIRE(measured.predictives.size() == 4);
  for (const auto& [name, value] : trained.metrics) {
    CAPTURE(name);
    CHECK(measured.metrics.at(name) == doctest::Approx(value));
  }
  CHECK(of(measured, "map", "accuracy") == trained.metrics.at("accuracy"));
  const std::size_t answers[] = {3, 2, 4};
  for (std::size_t i = 0; i < 3; ++i) {
    for (const auto& [name, log_p] : measured.predictions[i].at("predictives").items()) {
      CAPTURE(name);
      REQUIRE(log_p.size() == answers[i]);
      double total = 0.0;
      for (const auto& value : log_p) total += std::exp(value.get<double>());
      CHECK(total == doctest::Approx(1.0));
    }
  }
  options.prior = "1e13";
  options.validation = options.data;
  const auto sure = evaluation::evaluate(options, {});
  for (const char* name : {"laplace.mc", "laplace.probit"}) {
    CHECK(of(sure, name, "nll") == doctest::Approx(of(sure, "map", "nll")).epsilon(1e-4));
  }
  CHECK(of(sure, "temperature", "nll") <= of(sure, "map", "nll") + 1e-6);
  options.prior = "validation";
  CHECK(evaluation::evaluate(options, {}).metrics.at("laplace.precision") > 0.0);
}

TEST_CASE("language posterior: what cannot predict is refused with the remedy") {
  const Collected collected(1);
  const auto refused = [&](evaluation::EvaluateOptions options, const char* remedy) {
    CHECK_THROWS_WITH_AS(evaluation::evaluate(options, {}), doctest::Contains(remedy),
                         core::ConfigError);
  };
  evaluation::EvaluateOptions options = collected.options();
  options.dtype = "bfloat16";
  refused(options, "--dtype");
  options = collected.options("exact-match");
  refused(options, "--posterior");
  options = collected.options();
  options.mc_dropout = 2;
  refused(options, "--mc-dropout");
  options = collected.options();
  options.adapter = collected.trained.path("run/global");
  refused(options, "--adapter");
}
