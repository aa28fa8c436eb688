#include "evaluation/token_calibration.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "core/check.h"

namespace drystone::evaluation {

void TokenCalibration::add(const at::Tensor& p, const at::Tensor& chosen,
                           const at::Tensor& labels) {
  core::require(p.dim() == 2 && chosen.dim() == 1 && labels.dim() == 1 &&
                    p.size(0) == labels.size(0) && chosen.size(0) == labels.size(0),
                "TokenCalibration: lengths differ");
  const at::NoGradGuard no_grad;
  const auto doubles = [](const at::Tensor& t) { return t.to(at::kCPU, at::kDouble).contiguous(); };
  const auto [best, place] = p.max(1);
  const at::Tensor confidence = doubles(best);
  const at::Tensor hit = doubles(place == labels.to(place.device()));
  const at::Tensor log_p = doubles(chosen);
  const at::Tensor squares = p.square().sum({1}, /*keepdim=*/false, at::kDouble);
  brier_ += (doubles(squares) - log_p.exp() * 2.0 + 1.0).sum().item<double>();
  nll_ -= log_p.sum().item<double>();
  hits_ += hit.sum().item<double>();
  count_ += static_cast<double>(labels.size(0));
  for (std::int64_t i = 0; i < labels.size(0); ++i) {
    const double sure = confidence.const_data_ptr<double>()[i];
    Bin& bin = bins_[std::min(kBins - 1, static_cast<std::size_t>(sure * kBins))];
    bin.hits += hit.const_data_ptr<double>()[i];
    bin.confidence += sure;
  }
}

training::Metrics TokenCalibration::metrics() const {
  core::require(count_ > 0.0, "TokenCalibration: nothing was added");
  double gap = 0.0;
  for (const Bin& bin : bins_) gap += std::abs(bin.hits - bin.confidence);
  return {{"accuracy", hits_ / count_},
          {"nll", nll_ / count_},
          {"perplexity", training::perplexity(nll_ / count_)},
          {"ece", gap / count_},
          {"brier", brier_ / count_}};
}

}  // namespace drystone::evaluation
