#include "training/metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/log_softmax.h>

#include "core/check.h"

namespace drystone::training {

namespace {

struct Bin {
  double hits = 0.0;
  double confidence = 0.0;
};

double pearson(std::span<const double> x, std::span<const double> y) {
  const double n = static_cast<double>(x.size());
  const double mean_x = std::accumulate(x.begin(), x.end(), 0.0) / n;
  const double mean_y = std::accumulate(y.begin(), y.end(), 0.0) / n;
  double xy = 0.0;
  double xx = 0.0;
  double yy = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean_x) * (y[i] - mean_y);
    xx += (x[i] - mean_x) * (x[i] - mean_x);
    yy += (y[i] - mean_y) * (y[i] - mean_y);
  }
  return xy / std::sqrt(xx * yy);
}

/// 1-based ranks; equal values share the mean of theirs.
std::vector<double> average_ranks(std::span<const double> values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](auto i, auto j) { return values[i] < values[j]; });
  std::vector<double> ranks(values.size());
  for (std::size_t begin = 0; begin < order.size();) {
    std::size_t end = begin + 1;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    const double rank = (static_cast<double>(begin + end) + 1.0) / 2.0;
    for (std::size_t i = begin; i < end; ++i) ranks[order[i]] = rank;
    begin = end;
  }
  return ranks;
}

std::span<const double> as_span(const at::Tensor& tensor) {
  return {tensor.const_data_ptr<double>(), static_cast<std::size_t>(tensor.numel())};
}

double ratio(double numerator, double denominator) {
  return denominator == 0.0 ? 0.0 : numerator / denominator;
}

/// What the rows of a classification add up to.
struct Calibration {
  static constexpr std::size_t kBins = 10;

  std::array<Bin, kBins> bins{};
  double nll = 0.0;
  double brier = 0.0;

  /// @param log_p  of each class
  void add(std::span<const double> log_p, std::size_t predicted, std::size_t truth) {
    const double confidence = std::exp(log_p[predicted]);
    Bin& bin = bins[std::min(kBins - 1, static_cast<std::size_t>(confidence * kBins))];
    bin.hits += predicted == truth ? 1.0 : 0.0;
    bin.confidence += confidence;
    nll -= log_p[truth];
    for (std::size_t k = 0; k < log_p.size(); ++k) {
      const double error = std::exp(log_p[k]) - (k == truth ? 1.0 : 0.0);
      brier += error * error;
    }
  }
  double ece_sum() const {
    double sum = 0.0;
    for (const Bin& bin : bins) sum += std::abs(bin.hits - bin.confidence);
    return sum;
  }
};

}  // namespace

Confusion::Confusion(std::span<const std::int64_t> truth, std::span<const std::int64_t> predicted,
                     std::int64_t classes)
    : hits_(static_cast<std::size_t>(classes)),
      truths_(hits_.size()),
      predicted_(hits_.size()),
      count_(static_cast<double>(truth.size())) {
  core::require(!truth.empty() && truth.size() == predicted.size(),
                "Confusion: no rows, or lengths that differ");
  for (std::size_t i = 0; i < truth.size(); ++i) {
    core::require(truth[i] >= 0 && truth[i] < classes, "Confusion: a label is not a class");
    core::require(predicted[i] >= 0 && predicted[i] < classes,
                  "Confusion: a prediction is not a class");
    const auto label = static_cast<std::size_t>(truth[i]);
    truths_[label] += 1.0;
    predicted_[static_cast<std::size_t>(predicted[i])] += 1.0;
    if (truth[i] == predicted[i]) hits_[label] += 1.0;
  }
}

double Confusion::accuracy() const {
  return std::accumulate(hits_.begin(), hits_.end(), 0.0) / count_;
}

double Confusion::f1(std::int64_t positive) const {
  const auto k = static_cast<std::size_t>(positive);
  core::require(positive >= 0 && k < hits_.size(), "f1: no such class");
  return ratio(2.0 * hits_[k], truths_[k] + predicted_[k]);
}

double Confusion::macro_f1() const {
  double sum = 0.0;
  double present = 0.0;
  for (std::size_t k = 0; k < hits_.size(); ++k) {
    if (truths_[k] + predicted_[k] == 0.0) continue;
    sum += f1(static_cast<std::int64_t>(k));
    present += 1.0;
  }
  return sum / present;
}

double Confusion::micro_f1() const { return accuracy(); }

double Confusion::matthews() const {
  double covariance = accuracy() * count_ * count_;
  double truth_variance = count_ * count_;
  double predicted_variance = count_ * count_;
  for (std::size_t k = 0; k < hits_.size(); ++k) {
    covariance -= truths_[k] * predicted_[k];
    truth_variance -= truths_[k] * truths_[k];
    predicted_variance -= predicted_[k] * predicted_[k];
  }
  return ratio(covariance, std::sqrt(truth_variance) * std::sqrt(predicted_variance));
}

Metrics classification_metrics(const at::Tensor& logits, const at::Tensor& labels) {
  const at::Tensor log_p = at::log_softmax(logits.to(at::kCPU, at::kDouble), -1).contiguous();
  const at::Tensor truth = labels.to(at::kCPU, at::kLong).contiguous();
  const std::span<const std::int64_t> truths(truth.const_data_ptr<std::int64_t>(),
                                             static_cast<std::size_t>(truth.numel()));
  const auto classes = static_cast<std::size_t>(log_p.size(1));
  core::require(truths.size() == static_cast<std::size_t>(log_p.size(0)),
                "classification_metrics: lengths differ");
  Calibration calibration;
  std::vector<std::int64_t> predicted;
  for (std::size_t row = 0; row < truths.size(); ++row) {
    const auto p = as_span(log_p).subspan(row * classes, classes);
    const auto best = static_cast<std::size_t>(std::max_element(p.begin(), p.end()) - p.begin());
    const auto label = static_cast<std::size_t>(truths[row]);
    core::require(label < classes, "classification_metrics: a label is not a class");
    calibration.add(p, best, label);
    predicted.push_back(static_cast<std::int64_t>(best));
  }
  const Confusion confusion(truths, predicted, log_p.size(1));
  const double count = static_cast<double>(truths.size());
  Metrics metrics = {{"loss", calibration.nll / count},    {"accuracy", confusion.accuracy()},
                     {"nll", calibration.nll / count},     {"ece", calibration.ece_sum() / count},
                     {"brier", calibration.brier / count}, {"f1_macro", confusion.macro_f1()},
                     {"f1_micro", confusion.micro_f1()},   {"matthews", confusion.matthews()}};
  if (classes == 2) metrics["f1"] = confusion.f1(1);
  return metrics;
}

Metrics regression_metrics(const at::Tensor& predictions, const at::Tensor& targets) {
  const at::Tensor x = predictions.to(at::kCPU, at::kDouble).reshape({-1}).contiguous();
  const at::Tensor y = targets.to(at::kCPU, at::kDouble).reshape({-1}).contiguous();
  core::require(x.numel() == y.numel(), "regression_metrics: lengths differ");
  const double mse = (x - y).square().mean().item<double>();
  const double spearman = pearson(average_ranks(as_span(x)), average_ranks(as_span(y)));
  return {{"loss", mse},
          {"mse", mse},
          {"mae", (x - y).abs().mean().item<double>()},
          {"pearson", pearson(as_span(x), as_span(y))},
          {"spearman", spearman}};
}

double perplexity(double mean_nll) { return std::exp(mean_nll); }

ChosenAnswers choose(std::span<const Choice> choices) {
  core::require(!choices.empty(), "choose: no answers");
  const auto best = [&](const auto& length) {
    std::size_t winner = 0;
    double highest = -std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < choices.size(); ++i) {
      core::require(length(choices[i]) > 0, "choose: an answer of length 0");
      const double score = choices[i].log_likelihood / static_cast<double>(length(choices[i]));
      if (score > highest) {
        winner = i;
        highest = score;
      }
    }
    return winner;
  };
  return {.by_sum = best([](const Choice&) { return std::size_t{1}; }),
          .by_characters = best([](const Choice& c) { return c.num_characters; }),
          .by_bytes = best([](const Choice& c) { return c.num_bytes; }),
          .by_tokens = best([](const Choice& c) { return c.num_tokens; })};
}

Metrics multiple_choice_metrics(std::span<const ChosenAnswers> chosen,
                                std::span<const std::size_t> truth) {
  core::require(!chosen.empty() && chosen.size() == truth.size(),
                "multiple_choice_metrics: no questions, or lengths that differ");
  Metrics metrics = {
      {"accuracy", 0.0}, {"accuracy_norm", 0.0}, {"accuracy_bytes", 0.0}, {"accuracy_tokens", 0.0}};
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const auto hit = [&](std::size_t answer) { return answer == truth[i] ? 1.0 : 0.0; };
    metrics["accuracy"] += hit(chosen[i].by_sum);
    metrics["accuracy_norm"] += hit(chosen[i].by_characters);
    metrics["accuracy_bytes"] += hit(chosen[i].by_bytes);
    metrics["accuracy_tokens"] += hit(chosen[i].by_tokens);
  }
  for (auto& [name, value] : metrics) value /= static_cast<double>(chosen.size());
  return metrics;
}

}  // namespace drystone::training
