#include "data/dirichlet.h"

#include <algorithm>
#include <cmath>

namespace drystone::data {

double log_gamma_draw(double shape, core::SplitMix64& random) {
  if (shape < 1.0) {  // Gamma(a) is Gamma(a + 1) · U^(1/a)
    const double log_uniform = std::log1p(-random.uniform());
    return log_gamma_draw(shape + 1.0, random) + log_uniform / shape;
  }
  const double d = shape - 1.0 / 3.0;
  const double c = 1.0 / std::sqrt(9.0 * d);
  for (;;) {
    const double x = random.normal();
    const double root = 1.0 + c * x;
    if (root <= 0.0) continue;
    const double v = root * root * root;
    const double log_uniform = std::log1p(-random.uniform());
    if (log_uniform < 0.5 * x * x + d - d * v + d * std::log(v)) return std::log(d) + std::log(v);
  }
}

std::vector<double> dirichlet_draw(std::size_t size, double concentration,
                                   core::SplitMix64& random) {
  std::vector<double> shares(size);
  for (double& share : shares) share = log_gamma_draw(concentration, random);
  const double largest = *std::max_element(shares.begin(), shares.end());
  double sum = 0.0;
  for (double& share : shares) sum += share = std::exp(share - largest);
  for (double& share : shares) share /= sum;
  return shares;
}

}  // namespace drystone::data
