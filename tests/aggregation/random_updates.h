#pragma once
// Made updates, and the dense float64 definitions that results are compared with.

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros_like.h>

#include "aggregation/stacking.h"
#include "core/seed.h"
#include "tensors/random.h"

namespace drystone::test {

constexpr double kFloatEpsilon = 1.1920928955078125e-7;  // 2⁻²³

inline at::Tensor random_tensor(std::uint64_t seed, const std::string& purpose,
                                at::IntArrayRef shape) {
  return tensors::random_normal({.seed = seed, .purpose = purpose}, shape);
}

inline tensors::Factors random_factors(std::uint64_t seed, const std::string& purpose, int64_t out,
                                       int64_t in, int64_t rank, double scale = 1.0) {
  return {.b = random_tensor(seed, purpose + "/b", {out, rank}) * scale,
          .a = random_tensor(seed, purpose + "/a", {rank, in})};
}

/// Two to seven clients of rank 1 to 5, scales from 1e-3 to 1e3, any weights.
inline std::vector<aggregation::WeightedFactors> random_clients(std::uint64_t seed, int64_t out,
                                                                int64_t in) {
  core::SplitMix64 random(seed);
  std::vector<aggregation::WeightedFactors> clients(2 + random.below(6));
  for (std::size_t k = 0; k < clients.size(); ++k) {
    const auto rank = static_cast<int64_t>(1 + random.below(5));
    const double scale = std::pow(10.0, 6.0 * random.uniform() - 3.0);
    clients[k].factors = random_factors(seed, std::to_string(k), out, in, rank, scale);
    clients[k].weight = 0.01 + 1000.0 * random.uniform();
  }
  return clients;
}

inline at::Tensor dense(const tensors::Factors& factors) {
  return at::mm(factors.b.to(at::kDouble), factors.a.to(at::kDouble));
}

inline double norm(const at::Tensor& tensor) {
  return tensor.to(at::kDouble).norm().item<double>();
}

inline double total_weight(const std::vector<aggregation::WeightedFactors>& clients) {
  double total = 0.0;
  for (const auto& client : clients) total += client.weight;
  return total;
}

/// Σ p_k · B_k · A_k in float64.
inline at::Tensor weighted_mean_delta(const std::vector<aggregation::WeightedFactors>& clients) {
  at::Tensor sum = at::zeros_like(dense(clients.front().factors));
  for (const auto& [factors, weight] : clients) {
    sum = sum + dense(factors) * (weight / total_weight(clients));
  }
  return sum;
}

/// Σ p_k · ‖B_k‖ · ‖A_k‖: what a rounding error of a stack is measured against.
inline double norm_bound(const std::vector<aggregation::WeightedFactors>& clients) {
  double bound = 0.0;
  for (const auto& [factors, weight] : clients) {
    bound += weight / total_weight(clients) * norm(factors.b) * norm(factors.a);
  }
  return bound;
}

}  // namespace drystone::test
