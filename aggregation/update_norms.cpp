#include "aggregation/update_norms.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mm.h>

#include "aggregation/gate_checks.h"
#include "core/check.h"

namespace drystone::aggregation {
namespace {

constexpr double kWeightSize = 0.02;  // root mean square of a weight as it is drawn

double num_entries(const std::vector<int64_t>& sizes) {
  double count = 1.0;
  for (const int64_t size : sizes) count *= static_cast<double>(size);
  return count;
}

double reference(const AdapterLayout& layout, const std::string& name, double count,
                 double least_size) {
  const auto known = layout.norms.find(name);
  if (known == layout.norms.end()) return std::sqrt(count);
  return std::max(known->second, least_size * std::sqrt(count));
}

double norm_of(const at::Tensor& tensor) {
  return at::linalg_vector_norm(tensor, 2, {}, /*keepdim=*/false, at::kDouble).item<double>();
}

bool is_statistic(const std::string& part) { return part.starts_with(tensors::kStatistics); }

core::Expected<void> check(const std::string& name, double norm, double reference,
                           double max_norm) {
  if (norm <= max_norm * reference) return {};  // false for NaN
  std::ostringstream text;
  text << name << ": the update's norm " << norm << " is more than " << max_norm << " times the "
       << reference << " of what it changes (aggregation.max_norm)" << kProbablyDiverged;
  return core::refuse(core::Refusal::NormAboveBound, text.str());
}

/// @param fits_module, fits_dense  (part, its norm) -> Expected<void>: whether to go on
core::Expected<UpdateNorms> measure(const tensors::FactorSetFile& update, const auto& fits_module,
                                    const auto& fits_dense) {
  double modules = 0.0;
  double dense = 0.0;
  for (const auto& [name, shape] : update.shapes().modules) {
    const double norm = product_norm(update.module(name));
    if (auto fits = fits_module(name, norm); !fits) return tl::make_unexpected(fits.error());
    modules += norm * norm;
    if (update.num_bytes() >= kWorthForgetting) update.forget_pages();
  }
  for (const auto& [name, shape] : update.shapes().dense) {
    if (is_statistic(name)) continue;
    const double norm = norm_of(update.dense(name));
    if (auto fits = fits_dense(name, norm); !fits) return tl::make_unexpected(fits.error());
    dense += norm * norm;
  }
  return UpdateNorms{.modules = std::sqrt(modules), .dense = std::sqrt(dense)};
}

/// Weighted lower median of the values above zero; 0 without any.
double median(std::vector<std::pair<double, double>> values_and_shares) {
  std::erase_if(values_and_shares, [](const auto& v) { return v.first <= 0.0 || v.second <= 0.0; });
  std::ranges::sort(values_and_shares);
  double whole = 0.0;
  for (const auto& [value, share] : values_and_shares) whole += share;
  double below = 0.0;
  for (const auto& [value, share] : values_and_shares) {
    below += share;
    if (2.0 * below >= whole * (1.0 - 1e-12)) return value;
  }
  return 0.0;
}

}  // namespace

double product_norm(const tensors::Factors& factors) {
  const at::NoGradGuard no_grad;
  const at::Tensor b = factors.b.to(at::kDouble);
  const at::Tensor a = factors.a.to(at::kDouble);
  const double square = (at::mm(b.t(), b) * at::mm(a, a.t())).sum().item<double>();
  return std::sqrt(square < 0.0 ? 0.0 : square);  // rounding may leave a zero below zero
}

double reference_norm(const AdapterLayout& layout, const std::string& module) {
  const ModuleLayout& shape = layout.modules.at(module);
  return reference(layout, module, num_entries({shape.out, shape.in}), kWeightSize);
}

double reference_dense_norm(const AdapterLayout& layout, const std::string& part) {
  return reference(layout, part, num_entries(layout.dense.at(part)), 1.0);
}

UpdateNorms norms_of(const tensors::FactorSetFile& update) {
  const auto any = [](const std::string&, double) { return core::Expected<void>(); };
  return *measure(update, any, any);
}

core::Expected<UpdateNorms> check_norms(const tensors::FactorSetFile& update,
                                        const AdapterLayout& layout, double max_norm) {
  return measure(
      update,
      [&](const std::string& module, double norm) {
        return check(module, norm, reference_norm(layout, module), max_norm);
      },
      [&](const std::string& part, double norm) {
        return check(part, norm, reference_dense_norm(layout, part), max_norm);
      });
}

std::vector<double> weight_factors(std::span<const UpdateNorms> norms,
                                   std::span<const double> shares, double max_norm) {
  core::require(norms.size() == shares.size(), "weight_factors: one share an update");
  std::vector<double> factors(norms.size(), 1.0);
  if (max_norm == 0.0) return factors;
  for (const auto part : {&UpdateNorms::modules, &UpdateNorms::dense}) {
    std::vector<std::pair<double, double>> values;
    values.reserve(norms.size());
    for (std::size_t i = 0; i < norms.size(); ++i) values.emplace_back(norms[i].*part, shares[i]);
    const double bound = max_norm * median(values);
    if (bound == 0.0) continue;
    for (std::size_t i = 0; i < norms.size(); ++i) {
      if (norms[i].*part > bound) factors[i] = std::min(factors[i], bound / (norms[i].*part));
    }
  }
  return factors;
}

}  // namespace drystone::aggregation
