// Laplace-LoRA from the sums to the class probabilities against tests/oracles/laplace_oracle.py,
// which shares no code with it: NumPy, gradients by hand, dense matrices, integrals for draws.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "adapters/posterior/linearisation.h"
#include "adapters/posterior/predictive.h"
#include "adapters/registry.h"
#include "fixture.h"
#include "models/model.h"

namespace drystone::adapters {
namespace {

constexpr double kSums = 2e-7;        // relative: statistics travel in fp32
constexpr double kPosterior = 1e-6;   // what follows from them in fp64
constexpr double kMonteCarlo = 1e-2;  // 100,000 draws: three deviations
constexpr std::int64_t kDraws = 100000;

using Json = nlohmann::json;

at::Tensor doubles(const Json& json) {
  return at::tensor(json.at("values").get<std::vector<double>>(), at::kDouble)
      .view(json.at("shape").get<std::vector<std::int64_t>>());
}

/// Two token-wise layers, the mean over tokens, a head; in fp64 on padded rows.
class TokenModel final : public models::Model {
 public:
  explicit TokenModel(const Json& weights) : embedding_(doubles(weights.at("embedding"))) {
    first_.name = "layer.0.query";
    first_.weight = doubles(weights.at("w1"));
    first_.bias = doubles(weights.at("bias1"));
    second_.name = "layer.1.query";
    second_.weight = doubles(weights.at("w2"));
    head_ = doubles(weights.at("head"));
    head_bias_ = doubles(weights.at("head_bias"));
  }

  at::Tensor logits(const models::Batch& batch) override {
    const at::Tensor mask = batch.pad_mask.to(at::kDouble).unsqueeze(-1);
    const at::Tensor h = first_.forward(at::embedding(embedding_, batch.input_ids)).tanh();
    const at::Tensor pooled = (second_.forward(h) * mask).sum(1) / mask.sum(1);
    return at::linear(pooled.tanh(), head_, head_bias_);
  }
  at::Tensor loss(const at::Tensor& logits, const models::Batch& batch) const override {
    return at::cross_entropy_loss(logits, batch.labels);
  }
  std::vector<models::Linear*> linears() override { return {&first_, &second_}; }
  std::map<std::string, at::Tensor*> dense() override {
    return {{"classifier.weight", &head_}, {"classifier.bias", &head_bias_}};
  }
  void set_training(bool, std::uint64_t) override {}

 private:
  at::Tensor embedding_;
  models::Linear first_;
  models::Linear second_;
  at::Tensor head_;
  at::Tensor head_bias_;
};

struct Oracle {
  Json json = test::read_fixture("laplace.json");
  TokenModel model{json.at("weights")};
  std::map<std::string, tensors::Factors> factors = {{"layer.0.query", factors_of("1")},
                                                     {"layer.1.query", factors_of("2")}};
  AdapterSpec spec = completed({.method = "laplace-lora", .rank = 2, .target_modules = {"query"}});
  models::Batch batch;

  Oracle() {
    const auto texts = json.at("texts").get<std::vector<std::vector<std::int64_t>>>();
    const auto rows = static_cast<std::int64_t>(texts.size());
    batch.input_ids = at::zeros({rows, 6}, at::kLong);
    batch.pad_mask = at::zeros({rows, 6}, at::kBool);
    for (std::int64_t row = 0; row < rows; ++row) {
      const auto& text = texts[static_cast<std::size_t>(row)];
      const auto length = static_cast<std::int64_t>(text.size());
      batch.input_ids[row].narrow(0, 0, length).copy_(at::tensor(text, at::kLong));
      batch.pad_mask[row].narrow(0, 0, length).fill_(true);
    }
    batch.labels = at::tensor(json.at("labels").get<std::vector<std::int64_t>>(), at::kLong);
  }
  tensors::Factors factors_of(const std::string& layer) const {
    return {.b = doubles(json.at("weights").at("b" + layer)).to(at::kFloat),
            .a = doubles(json.at("weights").at("a" + layer)).to(at::kFloat)};
  }
  double examples() const { return static_cast<double>(batch.labels.size(0)); }
  TensorMap statistics() {
    const auto adapter = make_adapter(model, spec, {.factors = &factors});
    const std::vector<std::size_t> places = {0, 1, 2, 3, 4};
    adapter->observe({.batch = batch, .examples = places});
    return adapter->statistics();
  }
};

void check_near(const at::Tensor& actual, const at::Tensor& expected, double tolerance) {
  REQUIRE(actual.sizes() == expected.sizes());
  const double size = expected.abs().max().item<double>();
  CHECK((actual - expected).abs().max().item<double>() <= tolerance * size);
}

TEST_CASE("laplace oracle: sums, counts and likelihood") {
  Oracle oracle;
  const TensorMap statistics = oracle.statistics();
  const auto near = [&](const std::string& name, const Json& expected) {
    CAPTURE(name);
    check_near(statistics.at(name).to(at::kDouble) * oracle.examples(), doubles(expected), kSums);
  };
  const Json& inputs = oracle.json.at("inputs");
  const Json& gradients = oracle.json.at("gradients");
  for (const std::string layer : {"1", "2"}) {
    const std::string module = layer == "1" ? "layer.0.query" : "layer.1.query";
    near(module + ".input", inputs.at("a" + layer));
    near(module + ".hidden", inputs.at("b" + layer));
    near(module + ".hidden_gradient", gradients.at("a" + layer));
    near(module + ".output_gradient", gradients.at("b" + layer));
    CHECK(statistics.at(module + ".tokens").item<double>() * oracle.examples() ==
          doctest::Approx(oracle.json.at("tokens").get<double>()).epsilon(kSums));
  }
  near("head.input", inputs.at("head"));
  near("head.output_gradient", gradients.at("head"));
  CHECK(statistics.at("log_likelihood").item<double>() * oracle.examples() ==
        doctest::Approx(oracle.json.at("log_likelihood").get<double>()).epsilon(kSums));
}

/// The predictive of every text at one precision.
void check_predictions(const Linearisation::Answer& answer, std::int64_t precision,
                       const Json& expected) {
  const GaussianLogits logits{.mean = answer.mean,
                              .covariance = answer.covariances.front()[precision]};
  check_near(logits.covariance, doubles(expected.at("covariance")), kPosterior);
  check_near(probit(logits).exp(), doubles(expected.at("probit")), kPosterior);
  check_near(laplace_bridge(logits).exp(), doubles(expected.at("bridge")), kPosterior);
  const at::Tensor drawn = monte_carlo(logits, kDraws, {.seed = 1}).exp();
  check_near(drawn, doubles(expected.at("mc")), kMonteCarlo);
}

TEST_CASE("laplace oracle: evidence, its best prior precision, covariances and probabilities") {
  Oracle oracle;
  const Curvature curvature{.statistics = oracle.statistics(),
                            .num_examples = oracle.examples(),
                            .plan = sketch_plan(oracle.spec, 0)};
  Linearisation linearised(oracle.model, oracle.spec, {.factors = &oracle.factors});
  const double other = oracle.json.at("other_precision").get<double>();
  const std::map<std::string, Uncertain> kinds = {{"laplace", Uncertain::Factors},
                                                  {"last-layer", Uncertain::Head},
                                                  {"laplace+head", Uncertain::All}};
  for (const auto& [kind, which] : kinds) {
    CAPTURE(kind);
    const Json& expected = oracle.json.at("posteriors").at(kind);
    const KroneckerPosterior posterior = linearised.posterior(curvature, which);
    const double best = precision_by_evidence(posterior);
    const auto near = [](double value, const Json& number) {
      CHECK(value == doctest::Approx(number.get<double>()).epsilon(kPosterior));
    };
    near(best, expected.at("precision"));
    near(posterior.log_evidence(best), expected.at("log_evidence"));
    near(posterior.log_evidence(other), expected.at("other_log_evidence"));
    const Linearisation::Query query{.posterior = &posterior, .precisions = {best, other}};
    const auto answer = linearised.predict(oracle.batch, {{query}});
    check_near(answer.mean, doubles(oracle.json.at("logits")), 1e-12);
    check_predictions(answer, 0, expected.at("at_best"));
    check_predictions(answer, 1, expected.at("at_other"));
  }
}

}  // namespace
}  // namespace drystone::adapters
