#include "training/uncertainty.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/logsumexp.h>

#include "core/check.h"

namespace drystone::training {

namespace {

constexpr std::int64_t kMostListed = 16;  // members with a metric of their own: bounded on the wire

at::Tensor entropy(const at::Tensor& log_p) { return -(log_p.exp() * log_p).sum(-1); }

void list_members(Metrics& metrics, const std::vector<double>& losses) {
  double sum = 0.0;
  for (const double loss : losses) sum += loss;
  metrics["nll_members"] = sum / static_cast<double>(losses.size());
  if (losses.size() > static_cast<std::size_t>(kMostListed)) return;
  for (std::size_t m = 0; m < losses.size(); ++m) {
    metrics["nll_member_" + std::to_string(m)] = losses[m];
  }
}

}  // namespace

at::Tensor mixture(const at::Tensor& log_p) {
  return at::logsumexp(log_p, {0}) - std::log(static_cast<double>(log_p.size(0)));
}

Uncertainty uncertainty_of(const at::Tensor& log_p) {
  const at::Tensor mean = mixture(log_p);
  const at::Tensor aleatoric = entropy(log_p).mean(0);
  // As the mean of KL(p_m ‖ p̄): what the difference of the entropies is, without its cancellation.
  const at::Tensor epistemic = (log_p.exp() * (log_p - mean)).sum(-1).mean(0).clamp_min(0.0);
  return {.total = entropy(mean), .aleatoric = aleatoric, .epistemic = epistemic};
}

Metrics ensemble_metrics(const at::Tensor& logits, const at::Tensor& labels) {
  const at::NoGradGuard no_grad;
  core::require(logits.dim() == 3 && logits.size(0) > 0,
                "ensemble_metrics: logits are not [members, rows, classes]");
  const at::Tensor log_p = at::log_softmax(logits.to(at::kCPU, at::kDouble), -1);
  Metrics metrics = classification_metrics(mixture(log_p), labels);
  std::vector<double> losses;
  double accuracy = 0.0;
  for (std::int64_t m = 0; m < log_p.size(0); ++m) {
    const Metrics own = classification_metrics(log_p[m], labels);
    losses.push_back(own.at("nll"));
    accuracy += own.at("accuracy") / static_cast<double>(log_p.size(0));
  }
  list_members(metrics, losses);
  metrics["accuracy_members"] = accuracy;
  const Uncertainty uncertainty = uncertainty_of(log_p);
  metrics["uncertainty_total"] = uncertainty.total.mean().item<double>();
  metrics["uncertainty_aleatoric"] = uncertainty.aleatoric.mean().item<double>();
  metrics["uncertainty_epistemic"] = uncertainty.epistemic.mean().item<double>();
  return metrics;
}

Metrics ensemble_regression_metrics(const at::Tensor& predictions, const at::Tensor& targets) {
  const at::NoGradGuard no_grad;
  const at::Tensor all = predictions.to(at::kCPU, at::kDouble);
  const at::Tensor mean = all.mean(0);
  Metrics metrics = regression_metrics(mean, targets);
  const at::Tensor truth = targets.to(at::kCPU, at::kDouble);
  metrics["mse_members"] = (all - truth).square().mean().item<double>();
  metrics["variance_members"] = (all - mean).square().mean().item<double>();
  return metrics;
}

void TokenUncertainty::add(const at::Tensor& logits, const at::Tensor& labels) {
  const at::NoGradGuard no_grad;
  const std::int64_t members = logits.size(0);
  core::require(
      member_losses_.empty() || member_losses_.size() == static_cast<std::size_t>(members),
      "TokenUncertainty: the number of members changes");
  member_losses_.resize(static_cast<std::size_t>(members));
  const bool is_double = logits.scalar_type() == at::kDouble;
  const at::Tensor log_p = at::log_softmax(logits, -1, is_double ? at::kDouble : at::kFloat);
  const at::Tensor index = labels.view({1, -1, 1}).expand({members, -1, 1});
  const at::Tensor chosen = log_p.gather(-1, index).squeeze(-1).to(at::kDouble);
  const at::Tensor own = -chosen.sum(-1);
  for (std::int64_t m = 0; m < members; ++m) {
    member_losses_[static_cast<std::size_t>(m)] += own[m].item<double>();
  }
  loss_ -= mixture(chosen).sum().item<double>();
  total_ += entropy(mixture(log_p)).sum(at::kDouble).item<double>();
  aleatoric_ += entropy(log_p).sum(at::kDouble).item<double>() / static_cast<double>(members);
  num_targets_ += labels.numel();
}

Metrics TokenUncertainty::metrics() const {
  core::require(num_targets_ > 0, "TokenUncertainty: nothing was predicted");
  const double targets = static_cast<double>(num_targets_);
  Metrics metrics = {{"loss", loss_ / targets},
                     {"perplexity", perplexity(loss_ / targets)},
                     {"targets", targets},
                     {"uncertainty_total", total_ / targets},
                     {"uncertainty_aleatoric", aleatoric_ / targets},
                     {"uncertainty_epistemic", std::max(0.0, (total_ - aleatoric_) / targets)}};
  std::vector<double> losses;
  for (const double loss : member_losses_) losses.push_back(loss / targets);
  list_members(metrics, losses);
  return metrics;
}

}  // namespace drystone::training
