#include "client/evaluator.h"

#include <fstream>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tests/adapters/toy_model.h"
#include "toy_examples.h"

namespace drystone::client {
namespace {

nlohmann::json read_fixture() {
  std::ifstream file(DRYSTONE_SOURCE_DIR "/tests/client/fixtures/metrics.json");
  return nlohmann::json::parse(file);
}

void check_metrics(const std::map<std::string, double>& actual, const nlohmann::json& expected) {
  CHECK(actual.size() == expected.size());
  for (const auto& [name, value] : expected.items()) {
    CAPTURE(name);
    CHECK(actual.at(name) == doctest::Approx(value.get<double>()).epsilon(1e-6));
  }
}

TEST_CASE("metrics: NumPy's and SciPy's values") {
  const nlohmann::json fixture = read_fixture();
  for (const auto& sample : fixture.at("classification")) {
    const at::Tensor logits = at::tensor(sample.at("logits").get<std::vector<float>>())
                                  .view(sample.at("shape").get<std::vector<std::int64_t>>());
    const at::Tensor labels = at::tensor(sample.at("labels").get<std::vector<std::int64_t>>());
    check_metrics(classification_metrics(logits, labels), sample.at("metrics"));
  }
  for (const auto& sample : fixture.at("regression")) {
    check_metrics(regression_metrics(at::tensor(sample.at("predictions").get<std::vector<float>>()),
                                     at::tensor(sample.at("targets").get<std::vector<float>>())),
                  sample.at("metrics"));
  }
}

TEST_CASE(
    "classification_metrics: a certain and right model has no error; a label must be a class") {
  const at::Tensor logits = at::eye(4) * 100.0;
  const auto metrics = classification_metrics(logits, at::arange(4));
  CHECK(metrics.at("accuracy") == 1.0);
  CHECK(metrics.at("ece") == doctest::Approx(0.0));
  CHECK_THROWS_AS(classification_metrics(logits, at::arange(1, 5)), core::InvalidArgument);
}

TEST_CASE("evaluate_model: the batch size does not matter, progress ends at the total") {
  test::ToyModel model;
  const Examples examples = test::toy_examples(/*seed=*/1, /*count=*/23);
  std::int64_t done = 0;
  const EvaluateHooks hooks{.on_progress =
                                [&](std::int64_t now, std::int64_t total) {
                                  CHECK(now > done);
                                  CHECK(total == 23);
                                  done = now;
                                },
                            .stop = {}};
  const auto whole = evaluate_model(model, examples, 23);
  const auto parts = evaluate_model(model, examples, 4, hooks);
  REQUIRE(whole.has_value());
  REQUIRE(parts.has_value());
  CHECK(done == 23);
  CHECK(parts->num_examples == 23);
  for (const auto& [name, value] : whole->metrics) {
    CHECK(parts->metrics.at(name) == doctest::Approx(value).epsilon(1e-5));
  }
}

TEST_CASE("evaluate_model: stops, and refuses nothing to do") {
  test::ToyModel model;
  std::stop_source source;
  source.request_stop();
  const Examples examples = test::toy_examples(1, 5);
  CHECK_FALSE(evaluate_model(model, examples, 2, {.on_progress = {}, .stop = source.get_token()}));
  CHECK_THROWS_AS(evaluate_model(model, {}, 2), core::InvalidArgument);
}

}  // namespace
}  // namespace drystone::client
