#include "evaluation/comparison.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/log_softmax.h>

#include "adapters/posterior/predictive.h"
#include "core/error.h"
#include "evaluation/predictives.h"

namespace drystone::evaluation {

namespace {

class Comparison {
 public:
  Comparison(const EvaluateOptions& options, PosteriorModel* posterior)
      : options_(options), posterior_(posterior) {}

  Measurement run(PredictiveSource& test, PredictiveSource* validation) {
    const bool validates = posterior_ != nullptr && validates_prior(options_);
    std::optional<double> temperature;
    if (validation != nullptr) {
      temperature = fit(*validation, validates);
      if (!temperature) return {};
    }
    Predictives predictives(test.labels(), test.num_classes());
    const bool ended = test.for_each({.dropout = options_.mc_dropout > 0}, [&](const auto& part) {
      add(part, temperature, predictives);
    });
    if (!ended) return {};
    Measurement measurement = predictives.measurement();
    if (temperature) measurement.metrics["temperature"] = *temperature;
    if (posterior_ != nullptr) posterior_->describe(measurement.metrics);
    return measurement;
  }

 private:
  std::int64_t samples() const { return samples_of(options_, /*fallback=*/10000); }

  /// @return  the temperature; nullopt: stopped
  std::optional<double> fit(PredictiveSource& validation, bool validates) {
    const std::vector<double> grid = precision_grid();
    const std::int64_t draws = std::min<std::int64_t>(samples(), 1000);
    Predictives predictives(validation.labels(), validation.num_classes());
    const auto name = [](std::size_t posterior, std::size_t precision) {
      return std::to_string(posterior) + "/" + std::to_string(precision);
    };
    const Ask ask{.covariances = validates, .precisions = grid};
    const bool ended = validation.for_each(ask, [&](const PredictiveSource::Part& part) {
      const PosteriorModel::Prediction& prediction = part.prediction;
      predictives.add("map", part.examples, at::log_softmax(prediction.mean, -1));
      for (std::size_t i = 0; i < prediction.each.size(); ++i) {
        for (std::size_t j = 0; j < grid.size(); ++j) {
          predictives.add(name(i, j), part.examples,
                          adapters::monte_carlo(prediction.each[i][j], draws, kPredictiveDraws));
        }
      }
    });
    if (!ended) return std::nullopt;
    for (std::size_t i = 0; validates && i < posterior_->posteriors().size(); ++i) {
      std::size_t best = 0;
      for (std::size_t j = 1; j < grid.size(); ++j) {
        if (predictives.nll(name(i, j)) < predictives.nll(name(i, best))) best = j;
      }
      posterior_->posteriors()[i].precision = grid[best];
    }
    return fit_temperature(predictives.log_probabilities("map"), predictives.labels());
  }

  void add(const PredictiveSource::Part& part, std::optional<double> temperature,
           Predictives& predictives) {
    const PosteriorModel::Prediction& prediction = part.prediction;
    const at::Tensor map = at::log_softmax(prediction.mean, -1);
    const auto add = [&](const std::string& name, const at::Tensor& log_p) {
      predictives.add(name, part.examples, log_p);
    };
    add("map", map);
    if (temperature) add("temperature", at::log_softmax(map / *temperature, -1));
    if (part.dropout.defined()) add("mc-dropout", part.dropout);
    for (std::size_t i = 0; i < prediction.each.size(); ++i) {
      const std::string& name = posterior_->posteriors()[i].name;
      const adapters::GaussianLogits& logits = prediction.each[i].front();
      add(name + ".mc", adapters::monte_carlo(logits, samples(), kPredictiveDraws));
      add(name + ".probit", adapters::probit(logits));
      add(name + ".bridge", adapters::laplace_bridge(logits));
    }
  }

  const EvaluateOptions& options_;
  PosteriorModel* posterior_;
};

}  // namespace

Measurement compare_predictives(const EvaluateOptions& options, PosteriorModel* posterior,
                                PredictiveSource& test, PredictiveSource* validation) {
  if (posterior != nullptr && validates_prior(options) && validation == nullptr) {
    throw core::ConfigError("--prior validation: needs data of its own; set --validation");
  }
  return Comparison(options, posterior).run(test, validation);
}

}  // namespace drystone::evaluation
