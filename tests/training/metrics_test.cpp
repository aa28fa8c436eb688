// Metrics against scikit-learn and SciPy (tests/oracles/metrics_oracle.py).

#include "training/metrics.h"

#include <cmath>
#include <fstream>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/tensor.h>
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace drystone::training {
namespace {

using Json = nlohmann::json;

Json samples(const char* kind) {
  std::ifstream file(DRYSTONE_SOURCE_DIR "/tests/training/fixtures/metrics.json");
  return Json::parse(file).at(kind);
}

void check_metrics(const Metrics& actual, const Json& expected) {
  CHECK(actual.size() == expected.size());
  for (const auto& [name, value] : expected.items()) {
    CAPTURE(name);
    REQUIRE(actual.contains(name));
    CHECK(actual.at(name) == doctest::Approx(value.get<double>()).epsilon(1e-6));
  }
}

TEST_CASE("classification_metrics: scikit-learn's values") {
  for (const Json& sample : samples("classification")) {
    const at::Tensor logits = at::tensor(sample.at("logits").get<std::vector<float>>())
                                  .view(sample.at("shape").get<std::vector<std::int64_t>>());
    const at::Tensor labels = at::tensor(sample.at("labels").get<std::vector<std::int64_t>>());
    check_metrics(classification_metrics(logits, labels), sample.at("metrics"));
  }
}

TEST_CASE("regression_metrics: scikit-learn's and SciPy's values") {
  for (const Json& sample : samples("regression")) {
    check_metrics(regression_metrics(at::tensor(sample.at("predictions").get<std::vector<float>>()),
                                     at::tensor(sample.at("targets").get<std::vector<float>>())),
                  sample.at("metrics"));
  }
}

TEST_CASE("Confusion: scikit-learn's values, for classes that never occur too") {
  for (const Json& sample : samples("confusion")) {
    const auto truth = sample.at("truth").get<std::vector<std::int64_t>>();
    const auto predicted = sample.at("predicted").get<std::vector<std::int64_t>>();
    const Confusion confusion(truth, predicted, sample.at("classes").get<std::int64_t>());
    const Json& expected = sample.at("metrics");
    check_metrics({{"accuracy", confusion.accuracy()},
                   {"f1", confusion.f1(1)},
                   {"f1_macro", confusion.macro_f1()},
                   {"f1_micro", confusion.micro_f1()},
                   {"matthews", confusion.matthews()}},
                  expected);
  }
  const std::vector<std::int64_t> three = {0, 1, 2};
  CHECK_THROWS_AS(Confusion(three, three, 2), core::InvalidArgument);
  CHECK_THROWS_AS(Confusion({}, {}, 2), core::InvalidArgument);
}

TEST_CASE("multiple choice: NumPy's arg max by sum, characters, bytes and tokens") {
  const Json sample = samples("multiple_choice");
  std::vector<ChosenAnswers> chosen;
  std::vector<std::size_t> truth;
  for (const Json& question : sample.at("questions")) {
    std::vector<Choice> choices;
    for (const Json& choice : question.at("choices")) {
      choices.push_back({.log_likelihood = choice.at("log_likelihood").get<double>(),
                         .num_characters = choice.at("characters").get<std::size_t>(),
                         .num_bytes = choice.at("bytes").get<std::size_t>(),
                         .num_tokens = choice.at("tokens").get<std::size_t>()});
    }
    chosen.push_back(choose(choices));
    truth.push_back(question.at("truth").get<std::size_t>());
  }
  check_metrics(multiple_choice_metrics(chosen, truth), sample.at("metrics"));
  CHECK_THROWS_AS(choose({}), core::InvalidArgument);
}

TEST_CASE("classification_metrics: a certain and right model has no error; labels are classes") {
  const at::Tensor logits = at::eye(4) * 100.0;
  const auto metrics = classification_metrics(logits, at::arange(4));
  CHECK(metrics.at("accuracy") == 1.0);
  CHECK(metrics.at("matthews") == doctest::Approx(1.0));
  CHECK(metrics.at("ece") == doctest::Approx(0.0));
  CHECK(metrics.at("brier") == doctest::Approx(0.0));
  CHECK_THROWS_AS(classification_metrics(logits, at::arange(1, 5)), core::InvalidArgument);
  CHECK(perplexity(std::log(7.0)) == doctest::Approx(7.0));
}

}  // namespace
}  // namespace drystone::training
