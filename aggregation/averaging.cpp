#include "aggregation/averaging.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include "core/check.h"

namespace drystone::aggregation {
namespace {

double total_weight(std::span<const WeightedFactors> clients) {
  core::require(!clients.empty(), "average: no clients");
  double total = 0.0;
  for (const auto& [factors, weight] : clients) {
    core::require(std::isfinite(weight) && weight >= 0.0,
                  "average: weight must be finite and >= 0");
    core::require(factors.same_module(clients.front().factors),
                  "average: clients disagree on the module");
    total += weight;
  }
  core::require(total > 0.0 && std::isfinite(total),
                "average: all weights are zero, or their sum overflows");
  return total;
}

tensors::Factors average_padded_to(std::span<const WeightedFactors> clients, int64_t rank) {
  const double total = total_weight(clients);
  const at::NoGradGuard no_grad;
  const tensors::Factors& first = clients.front().factors;
  const at::Tensor b = at::zeros({first.out_features(), rank}, at::kDouble);
  const at::Tensor a = at::zeros({rank, first.in_features()}, at::kDouble);
  for (const auto& [factors, weight] : clients) {
    b.narrow(1, 0, factors.rank()).add_(factors.b, weight / total);
    a.narrow(0, 0, factors.rank()).add_(factors.a, weight / total);
  }
  return {.b = b.to(at::kFloat), .a = a.to(at::kFloat)};
}

}  // namespace

tensors::Factors average(std::span<const WeightedFactors> clients) {
  core::require(!clients.empty(), "average: no clients");
  const int64_t rank = clients.front().factors.rank();
  for (const auto& [factors, weight] : clients) {
    core::require(factors.rank() == rank, "average: clients differ in rank; pad or stack instead");
  }
  return average_padded_to(clients, rank);
}

tensors::Factors average_zero_padded(std::span<const WeightedFactors> clients) {
  int64_t rank = 0;
  for (const auto& [factors, weight] : clients) rank = std::max(rank, factors.rank());
  return average_padded_to(clients, rank);
}

at::Tensor weighted_sum(std::span<const at::Tensor> tensors, std::span<const double> shares) {
  core::require(!tensors.empty() && tensors.size() == shares.size(),
                "weighted_sum: needs one share a tensor, and at least one");
  const at::NoGradGuard no_grad;
  const at::Tensor sum = at::zeros(tensors.front().sizes(), at::kDouble);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    core::require(tensors[i].sizes() == sum.sizes(), "weighted_sum: shapes differ");
    sum.add_(tensors[i], shares[i]);
  }
  return sum.to(at::kFloat);
}

}  // namespace drystone::aggregation
