#include "cli/evaluate_predictives.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>

#include "adapters/predictive.h"
#include "cli/posterior.h"
#include "cli/predictives.h"
#include "core/check.h"
#include "core/error.h"
#include "core/text.h"

namespace drystone::cli {

namespace {

constexpr std::uint64_t kDrawSeed = 0;  // of all draws: the same command gives the same numbers
const core::StreamKey kDraws{.seed = kDrawSeed, .round = 0, .client = "", .purpose = "predictive"};

at::Tensor labels_of(const data::Dataset& dataset) {
  std::vector<std::int64_t> labels;
  for (std::size_t i = 0; i < dataset.size(); ++i) labels.push_back(dataset.label(i));
  return at::tensor(labels, at::kLong);
}

/// λ as a number; nullopt: to be chosen.
std::optional<double> given_precision(const std::string& prior) {
  if (prior == "evidence" || prior == "validation") return std::nullopt;
  double value = 0.0;
  const auto [end, error] = std::from_chars(prior.data(), prior.data() + prior.size(), value);
  if (error == std::errc() && end == prior.data() + prior.size() && value > 0.0) return value;
  throw core::ConfigError("--prior: " + core::quote(prior) +
                          " is not evidence, validation or a positive precision");
}

/// Every half decade.
std::vector<double> precision_grid() {
  std::vector<double> grid;
  for (double exponent = -2.0; exponent <= 8.0; exponent += 0.5) {
    grid.push_back(std::pow(10.0, exponent));
  }
  return grid;
}

class Comparison {
 public:
  Comparison(const EvaluateOptions& options, const MeasureHooks& hooks, const EvaluatedModel& model)
      : options_(options), hooks_(hooks), model_(model) {
    if (options.posterior.empty()) return;
    if (!options.adapter.empty()) {
      throw core::ConfigError("--adapter: --posterior holds the adapter as well; leave it out");
    }
    posterior_.emplace(model.model(), read_posterior(options.posterior));
    if (const auto precision = given_precision(options.prior)) {
      for (FittedPosterior& fitted : posterior_->posteriors()) fitted.precision = *precision;
    }
  }

  Measurement run(const data::Dataset& test, const data::Dataset& validation) {
    const bool validates = posterior_ && options_.prior == "validation";
    if (validates && validation.empty()) {
      throw core::ConfigError("--prior validation: needs data of its own; set --validation");
    }
    double temperature = 1.0;
    if (!validation.empty()) {
      const auto fitted = fit(validation, validates);
      if (!fitted) return {};
      temperature = *fitted;
    }
    Predictives predictives(labels_of(test));
    const bool ended = model_.for_each_batch(
        test, hooks_, [&](const data::EncodedBatch& encoded, const models::Batch& batch) {
          predict(encoded, batch, validation.empty() ? std::nullopt : std::optional(temperature),
                  predictives);
        });
    if (!ended) return {};
    Measurement measurement = predictives.measurement();
    if (!validation.empty()) measurement.metrics["temperature"] = temperature;
    if (!posterior_) return measurement;
    for (const FittedPosterior& fitted : posterior_->posteriors()) {
      measurement.metrics[fitted.name + ".precision"] = fitted.precision;
      measurement.metrics[fitted.name + ".log_evidence"] =
          fitted.posterior.log_evidence(fitted.precision);
    }
    return measurement;
  }

 private:
  /// @return  the temperature; nullopt: stopped
  std::optional<double> fit(const data::Dataset& validation, bool validates) {
    const std::vector<double> grid = precision_grid();
    Predictives predictives(labels_of(validation));
    const auto name = [](std::size_t posterior, std::size_t precision) {
      return std::to_string(posterior) + "/" + std::to_string(precision);
    };
    const bool ended = model_.for_each_batch(
        validation, hooks_, [&](const data::EncodedBatch& encoded, const models::Batch& batch) {
          if (!validates) return predictives.add("map", encoded.examples, map_of(batch));
          const auto prediction = posterior_->predict(batch, grid);
          predictives.add("map", encoded.examples, at::log_softmax(prediction.mean, -1));
          for (std::size_t i = 0; i < prediction.each.size(); ++i) {
            for (std::size_t j = 0; j < grid.size(); ++j) {
              predictives.add(
                  name(i, j), encoded.examples,
                  adapters::monte_carlo(prediction.each[i][j], validation_samples(), kDraws));
            }
          }
        });
    if (!ended) return std::nullopt;
    if (validates) {
      for (std::size_t i = 0; i < posterior_->posteriors().size(); ++i) {
        std::size_t best = 0;
        for (std::size_t j = 1; j < grid.size(); ++j) {
          if (predictives.nll(name(i, j)) < predictives.nll(name(i, best))) best = j;
        }
        posterior_->posteriors()[i].precision = grid[best];
      }
    }
    return fit_temperature(predictives.log_probabilities("map"), predictives.labels());
  }

  std::int64_t validation_samples() const { return std::min<std::int64_t>(options_.samples, 1000); }

  at::Tensor map_of(const models::Batch& batch) const {
    return at::log_softmax(model_.model().logits(batch).to(at::kCPU, at::kDouble), -1);
  }

  /// Passes with dropout, keyed by the pass and the batch's first example.
  at::Tensor mc_dropout(const data::EncodedBatch& encoded, const models::Batch& batch) const {
    at::Tensor sum;
    for (std::int64_t pass = 0; pass < options_.mc_dropout; ++pass) {
      const std::string purpose = "mc-dropout/" + std::to_string(encoded.examples.front());
      const auto key = static_cast<std::uint64_t>(pass);
      model_.model().set_training(true, core::stream_seed({kDrawSeed, key, "", purpose}));
      const at::Tensor p = map_of(batch).exp();
      sum = sum.defined() ? sum + p : p;
    }
    model_.model().set_training(false, 0);
    return (sum / static_cast<double>(options_.mc_dropout)).log();
  }

  void predict(const data::EncodedBatch& encoded, const models::Batch& batch,
               std::optional<double> temperature, Predictives& predictives) {
    std::optional<PosteriorModel::Prediction> prediction;
    if (posterior_) prediction = posterior_->predict(batch);
    const at::Tensor map = prediction ? at::log_softmax(prediction->mean, -1) : map_of(batch);
    const auto add = [&](const std::string& name, const at::Tensor& log_p) {
      predictives.add(name, encoded.examples, log_p);
    };
    add("map", map);
    if (temperature) add("temperature", at::log_softmax(map / *temperature, -1));
    if (options_.mc_dropout > 0) add("mc-dropout", mc_dropout(encoded, batch));
    if (!prediction) return;
    for (std::size_t i = 0; i < prediction->each.size(); ++i) {
      const std::string& name = posterior_->posteriors()[i].name;
      const adapters::GaussianLogits& logits = prediction->each[i].front();
      add(name + ".mc", adapters::monte_carlo(logits, options_.samples, kDraws));
      add(name + ".probit", adapters::probit(logits));
      add(name + ".bridge", adapters::laplace_bridge(logits));
    }
  }

  const EvaluateOptions& options_;
  const MeasureHooks& hooks_;
  const EvaluatedModel& model_;
  std::optional<PosteriorModel> posterior_;
};

}  // namespace

Measurement evaluate_predictives(const EvaluateOptions& options, const MeasureHooks& hooks,
                                 const EvaluatedModel& model, const data::Dataset& test,
                                 const data::Dataset& validation) {
  return Comparison(options, hooks, model).run(test, validation);
}

}  // namespace drystone::cli
