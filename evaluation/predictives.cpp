#include "evaluation/predictives.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log_softmax.h>

#include "core/check.h"

namespace drystone::evaluation {

using Json = nlohmann::ordered_json;

namespace {

double mean_nll(const at::Tensor& log_p, const at::Tensor& labels) {
  return -log_p.gather(1, labels.unsqueeze(1)).mean().item<double>();
}

std::vector<double> to_vector(const at::Tensor& row) {
  const at::Tensor values = row.contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

}  // namespace

void Predictives::add(const std::string& name, const std::vector<std::size_t>& examples,
                      const at::Tensor& log_p) {
  auto found = std::ranges::find(all_, name, &std::pair<std::string, at::Tensor>::first);
  if (found == all_.end()) {
    all_.emplace_back(name, at::full({labels_.size(0), num_classes_},
                                     -std::numeric_limits<double>::infinity(), at::kDouble));
    found = std::prev(all_.end());
  }
  for (std::size_t row = 0; row < examples.size(); ++row) {
    found->second[static_cast<std::int64_t>(examples[row])]
        .narrow(0, 0, log_p.size(1))
        .copy_(log_p[static_cast<std::int64_t>(row)]);
  }
}

const at::Tensor& Predictives::log_probabilities(const std::string& name) const {
  const auto found = std::ranges::find(all_, name, &std::pair<std::string, at::Tensor>::first);
  core::require(found != all_.end(), "predictives: none is called " + name);
  return found->second;
}

double Predictives::nll(const std::string& name) const {
  return mean_nll(log_probabilities(name), labels_);
}

Measurement Predictives::measurement() const {
  core::require(!all_.empty(), "predictives: none");
  Measurement result{.num_examples = labels_.size(0)};
  for (const auto& [name, log_p] : all_) {
    result.predictives.emplace_back(name, training::classification_metrics(log_p, labels_));
  }
  result.metrics = result.predictives.front().second;
  for (std::int64_t i = 0; i < labels_.size(0); ++i) {
    Json entry = {{"example", i}, {"label", labels_[i].item<std::int64_t>()}};
    entry["prediction"] = all_.front().second[i].argmax().item<std::int64_t>();
    entry["log_probabilities"] = to_vector(all_.front().second[i]);
    for (const auto& [name, log_p] : all_) entry["predictives"][name] = to_vector(log_p[i]);
    result.predictions.push_back(std::move(entry));
  }
  return result;
}

double fit_temperature(const at::Tensor& log_p, const at::Tensor& labels) {
  const at::NoGradGuard no_grad;
  const auto nll = [&](double log_temperature) {
    return mean_nll(at::log_softmax(log_p * std::exp(-log_temperature), -1), labels);
  };
  // The NLL is convex in 1/T, so that it has one minimum in log T as well: golden section.
  constexpr double kRatio = 0.6180339887498949;
  double low = std::log(0.05);
  double high = std::log(50.0);
  while (high - low > 1e-4) {
    const double left = high - kRatio * (high - low);
    const double right = low + kRatio * (high - low);
    if (nll(left) < nll(right)) {
      high = right;
    } else {
      low = left;
    }
  }
  return std::exp(0.5 * (low + high));
}

}  // namespace drystone::evaluation
