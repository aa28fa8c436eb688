#include "client/evaluator.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/log_softmax.h>

#include "core/check.h"

namespace drystone::client {

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

}  // namespace

std::map<std::string, double> classification_metrics(const at::Tensor& logits,
                                                     const at::Tensor& labels) {
  constexpr std::size_t kBins = 10;
  const at::Tensor log_p = at::log_softmax(logits.to(at::kCPU, at::kDouble), -1).contiguous();
  const at::Tensor truth = labels.to(at::kCPU, at::kLong).contiguous();
  const auto classes = static_cast<std::size_t>(log_p.size(1));
  const auto n = static_cast<std::size_t>(log_p.size(0));
  const std::span<const double> values = as_span(log_p);
  std::array<Bin, kBins> bins{};
  double nll = 0.0;
  double hits = 0.0;
  for (std::size_t row = 0; row < n; ++row) {
    const std::span<const double> p = values.subspan(row * classes, classes);
    const auto best = std::max_element(p.begin(), p.end());
    const auto label = static_cast<std::size_t>(truth.const_data_ptr<std::int64_t>()[row]);
    core::require(label < classes, "classification_metrics: a label is not a class");
    const bool hit = static_cast<std::size_t>(best - p.begin()) == label;
    const double confidence = std::exp(*best);
    Bin& bin = bins[std::min(kBins - 1, static_cast<std::size_t>(confidence * kBins))];
    bin.hits += hit ? 1.0 : 0.0;
    bin.confidence += confidence;
    hits += hit ? 1.0 : 0.0;
    nll -= p[label];
  }
  const double count = static_cast<double>(n);
  double ece = 0.0;
  for (const Bin& bin : bins) ece += std::abs(bin.hits - bin.confidence) / count;
  return {{"loss", nll / count}, {"accuracy", hits / count}, {"nll", nll / count}, {"ece", ece}};
}

std::map<std::string, double> regression_metrics(const at::Tensor& predictions,
                                                 const at::Tensor& targets) {
  const at::Tensor x = predictions.to(at::kCPU, at::kDouble).reshape({-1}).contiguous();
  const at::Tensor y = targets.to(at::kCPU, at::kDouble).reshape({-1}).contiguous();
  core::require(x.numel() == y.numel(), "regression_metrics: lengths differ");
  const double mse = (x - y).square().mean().item<double>();
  const double spearman = pearson(average_ranks(as_span(x)), average_ranks(as_span(y)));
  return {{"loss", mse},
          {"mse", mse},
          {"pearson", pearson(as_span(x), as_span(y))},
          {"spearman", spearman}};
}

namespace {

/// What the batches of one evaluation add up to.
class Scores {
 public:
  explicit Scores(models::Task task) : task_(task) {}

  /// @param targets  labels that a causal LM predicts
  void add(models::Model& model, const models::Batch& batch, std::int64_t targets) {
    if (task_ == models::Task::CausalLm) {  // logits of a vocabulary are too many to keep
      if (targets == 0) return;
      loss_sum_ += model.batch_loss(batch).item<double>() * static_cast<double>(targets);
      num_targets_ += targets;
      return;
    }
    logits_.push_back(model.logits(batch).to(at::kCPU));
    labels_.push_back(batch.labels.to(at::kCPU));
  }

  std::map<std::string, double> metrics() const {
    switch (task_) {
      case models::Task::Classification:
        return classification_metrics(at::cat(logits_), at::cat(labels_));
      case models::Task::Regression: return regression_metrics(at::cat(logits_), at::cat(labels_));
      case models::Task::CausalLm: {
        const double loss = loss_sum_ / static_cast<double>(num_targets_);
        return {{"loss", loss},
                {"perplexity", std::exp(loss)},
                {"targets", static_cast<double>(num_targets_)}};
      }
    }
    core::ensure(false, "evaluate: unknown task");
    return {};
  }

 private:
  models::Task task_;
  std::vector<at::Tensor> logits_;
  std::vector<at::Tensor> labels_;
  double loss_sum_ = 0.0;
  std::int64_t num_targets_ = 0;
};

}  // namespace

std::optional<Evaluation> evaluate_model(models::Model& model, const Examples& examples,
                                         std::int64_t batch_size, const EvaluateHooks& hooks) {
  core::require(!examples.dataset.empty(), "evaluate: no examples");
  const at::NoGradGuard no_grad;
  const auto start = std::chrono::steady_clock::now();
  const at::Device device = model.linears().front()->device();
  const auto total = static_cast<std::int64_t>(examples.dataset.size());
  model.set_training(false, 0);
  data::EvaluationBatches batches(examples.dataset, batch_size, examples.pad);
  Scores scores(examples.task);
  std::int64_t done = 0;
  for (data::EncodedBatch encoded; batches.next(encoded);) {
    if (hooks.stop.stop_requested()) return std::nullopt;
    const models::Batch batch = to_tensors(encoded, examples.task, device);
    scores.add(model, batch, num_targets(encoded, examples.task));
    done += encoded.rows;
    if (hooks.on_progress) hooks.on_progress(done, total);
  }
  return Evaluation{
      .num_examples = total,
      .metrics = scores.metrics(),
      .seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()};
}

}  // namespace drystone::client
