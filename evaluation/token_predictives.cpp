#include "evaluation/token_predictives.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/floor_divide.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include "adapters/posterior/linearisation.h"
#include "core/error.h"
#include "evaluation/posterior.h"
#include "evaluation/token_calibration.h"
#include "models/device.h"
#include "models/loss.h"

namespace drystone::evaluation {

using Json = nlohmann::ordered_json;

namespace {

constexpr std::int64_t kSamples = 32;
constexpr std::int64_t kValidationSamples = 8;

/// Probabilities of the vocabulary [targets, vocabulary], and log p of the labels [targets], which
/// stays exact where p is too small for its type.
struct TokenProbabilities {
  at::Tensor p;
  at::Tensor chosen;
};

TokenProbabilities probabilities(const at::Tensor& logits, const at::Tensor& labels) {
  const at::Tensor log_p = at::log_softmax(logits, -1);
  return {.p = log_p.exp(),
          .chosen = log_p.gather(1, labels.unsqueeze(1)).squeeze(1).to(at::kDouble)};
}

/// The mean of softmax(f ± J·δ) over draws, each of which counts twice.
class SampledTokens {
 public:
  SampledTokens(PosteriorModel& posterior, double precision, std::int64_t samples)
      : linearised_(posterior.linearised()) {
    const adapters::KroneckerPosterior& drawn = posterior.posteriors().front().posterior;
    for (std::int64_t i = 0; i < (samples + 1) / 2; ++i) {
      core::StreamKey key = kPredictiveDraws;
      key.round = static_cast<std::uint64_t>(i);
      directions_.push_back(adapters::draw_direction(drawn, precision, key));
    }
  }

  TokenProbabilities predict(const models::Batch& batch, const at::Tensor& logits,
                             const at::Tensor& labels) const {
    at::Tensor sum = at::zeros(logits.sizes(), logits.options());
    std::vector<at::Tensor> chosen;
    for (const adapters::Direction& direction : directions_) {
      const at::Tensor slope = linearised_.slope(batch, direction);
      for (const at::Tensor& sample : {logits + slope, logits - slope}) {
        const TokenProbabilities one = probabilities(sample, labels);
        sum.add_(one.p);
        chosen.push_back(one.chosen);
      }
    }
    const auto count = static_cast<double>(chosen.size());
    return {.p = sum.div_(count),
            .chosen = at::logsumexp(at::stack(chosen), {0}) - std::log(count)};
  }

 private:
  adapters::Linearisation& linearised_;
  std::vector<adapters::Direction> directions_;
};

/// The NLL at temperatures of equal ratio, of which the best and its neighbours give a parabola.
class TemperatureScan {
 public:
  void add(const at::Tensor& logits, const at::Tensor& labels) {
    for (std::size_t i = 0; i < kPoints; ++i) {
      const at::Tensor log_p = at::log_softmax(logits * std::exp(-log_temperature(i)), -1);
      nll_[i] -= log_p.gather(1, labels.unsqueeze(1)).to(at::kDouble).sum().item<double>();
    }
  }
  double best() const {
    const auto least = std::min_element(nll_.begin(), nll_.end());
    const auto i = static_cast<std::size_t>(least - nll_.begin());
    if (i == 0 || i + 1 == kPoints) return std::exp(log_temperature(i));
    const double bend = nll_[i - 1] - 2.0 * nll_[i] + nll_[i + 1];
    const double shift = bend > 0.0 ? 0.5 * (nll_[i - 1] - nll_[i + 1]) / bend : 0.0;
    return std::exp(log_temperature(i) + shift * kStep);
  }

 private:
  static constexpr std::size_t kPoints = 33;
  static constexpr double kStep = 0.1;  // from e^-1.6 = 0.2 to e^1.6 = 5
  static double log_temperature(std::size_t i) { return kStep * (static_cast<double>(i) - 16.0); }

  std::vector<double> nll_ = std::vector<double>(kPoints, 0.0);
};

/// Each text's share of the sum.
at::Tensor by_row(const models::Batch& batch, const at::Tensor& per_target) {
  const at::Tensor positions = models::find_targets(batch).positions;
  const at::Tensor rows = at::floor_divide(positions, batch.input_ids.size(1));
  return at::zeros({batch.input_ids.size(0)}, at::kDouble)
      .index_add_(0, rows, per_target.to(at::kCPU, at::kDouble));
}

class TokenComparison {
 public:
  TokenComparison(const EvaluateOptions& options, const MeasureHooks& hooks,
                  const EvaluatedModel& model)
      : options_(options),
        hooks_(hooks),
        model_(model),
        posterior_(load_posterior(options, model.model())) {
    if (posterior_->linearised().is_classifier()) {
      throw core::ConfigError("--posterior: is a classifier's; set --task classification");
    }
  }

  Measurement run(const data::Dataset& test, const data::Dataset& validation) {
    FittedPosterior& fitted = posterior_->posteriors().front();
    std::optional<double> temperature;
    if (!validation.empty()) {
      temperature = fit_temperature(validation);
      if (!temperature) return {};
    }
    if (validates_prior(options_) && !fit_precision(validation)) return {};
    const SampledTokens sampled(*posterior_, fitted.precision, samples_of(options_, kSamples));
    Totals totals{.predictions = std::vector<Json>(test.size())};
    const bool ended = for_each(test, [&](const Seen& seen) {
      totals.add("map", seen, probabilities(seen.logits, seen.labels));
      if (temperature) {
        totals.add("temperature", seen, probabilities(seen.logits / *temperature, seen.labels));
      }
      totals.add("laplace.mc", seen, sampled.predict(seen.batch, seen.logits, seen.labels));
    });
    if (!ended) return {};
    Measurement measurement = std::move(totals).measurement();
    if (temperature) measurement.metrics["temperature"] = *temperature;
    posterior_->describe(measurement.metrics);
    return measurement;
  }

 private:
  struct Seen {
    const data::EncodedBatch& encoded;
    const models::Batch& batch;
    at::Tensor logits;  ///< [targets, vocabulary]
    at::Tensor labels;  ///< [targets] beside them
  };

  struct Totals {
    std::vector<Json> predictions;
    std::vector<std::pair<std::string, evaluation::TokenCalibration>> all = {};
    double num_targets = 0.0;

    void add(const std::string& name, const Seen& seen, const TokenProbabilities& found) {
      auto own = std::ranges::find(all, name,
                                   &std::pair<std::string, evaluation::TokenCalibration>::first);
      if (own == all.end()) own = all.insert(all.end(), {name, evaluation::TokenCalibration()});
      own->second.add(found.p, found.chosen, seen.labels);
      const at::Tensor nll = by_row(seen.batch, -found.chosen);
      const bool is_first = own == all.begin();
      const at::Tensor targets = by_row(seen.batch, at::ones_like(found.chosen));
      if (is_first) num_targets += targets.sum().item<double>();
      for (std::size_t row = 0; row < seen.encoded.examples.size(); ++row) {
        const std::size_t example = seen.encoded.examples[row];
        const auto r = static_cast<std::int64_t>(row);
        Json& entry = predictions[example];
        if (is_first) {
          entry = {{"example", example},
                   {"nll", nll[r].item<double>()},
                   {"targets", static_cast<std::int64_t>(targets[r].item<double>())}};
        }
        entry["predictives"][name] = nll[r].item<double>();
      }
    }
    Measurement measurement() && {
      Measurement result{.num_examples = static_cast<std::int64_t>(predictions.size())};
      for (const auto& [name, calibration] : all) {
        result.predictives.emplace_back(name, calibration.metrics());
      }
      const training::Metrics& map = result.predictives.front().second;
      result.metrics = {
          {"loss", map.at("nll")}, {"perplexity", map.at("perplexity")}, {"targets", num_targets}};
      result.predictions = std::move(predictions);
      return result;
    }
  };

  bool for_each(const data::Dataset& dataset, const std::function<void(const Seen&)>& body) const {
    return model_.for_each_batch(
        dataset, hooks_, [&](const data::EncodedBatch& encoded, const models::Batch& batch) {
          at::Tensor logits = posterior_->linearised().logits(batch);
          at::Tensor labels = models::send(models::find_targets(batch).labels, logits.device());
          body({encoded, batch, std::move(logits), std::move(labels)});
        });
  }

  /// nullopt: stopped
  std::optional<double> fit_temperature(const data::Dataset& validation) const {
    TemperatureScan scan;
    const bool ended =
        for_each(validation, [&](const Seen& seen) { scan.add(seen.logits, seen.labels); });
    return ended ? std::optional(scan.best()) : std::nullopt;
  }

  /// @return  false: stopped
  bool fit_precision(const data::Dataset& validation) {
    if (validation.empty()) {
      throw core::ConfigError("--prior validation: needs data of its own; set --validation");
    }
    const std::int64_t samples = std::min(samples_of(options_, kSamples), kValidationSamples);
    const std::vector<double> grid = precision_grid();
    std::optional<double> least;
    for (std::size_t i = 0; i < grid.size(); i += 2) {
      const SampledTokens sampled(*posterior_, grid[i], samples);
      double nll = 0.0;
      const bool ended = for_each(validation, [&](const Seen& seen) {
        nll -= sampled.predict(seen.batch, seen.logits, seen.labels).chosen.sum().item<double>();
      });
      if (!ended) return false;
      if (least && nll >= *least) continue;
      least = nll;
      posterior_->posteriors().front().precision = grid[i];
    }
    return true;
  }

  const EvaluateOptions& options_;
  const MeasureHooks& hooks_;
  const EvaluatedModel& model_;
  std::unique_ptr<PosteriorModel> posterior_;
};

}  // namespace

Measurement evaluate_token_predictives(const EvaluateOptions& options, const MeasureHooks& hooks,
                                       const EvaluatedModel& model, const data::Dataset& test,
                                       const data::Dataset& validation) {
  return TokenComparison(options, hooks, model).run(test, validation);
}

}  // namespace drystone::evaluation
