// Two clients of ranks 8 and 2 train one module on different amounts of data; their updates are
// stacked without loss and compared with the dense weighted mean.

#include <cstdio>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>

#include "aggregation/stacking.h"

using drystone::aggregation::WeightedFactors;

int main() {
  const std::vector<WeightedFactors> clients = {
      {.factors = {.b = at::randn({48, 8}), .a = at::randn({8, 32})}, .weight = 900.0},
      {.factors = {.b = at::randn({48, 2}), .a = at::randn({2, 32})}, .weight = 100.0},
  };
  const drystone::tensors::Factors stacked = drystone::aggregation::stack(clients);

  const at::Tensor mean = clients[0].factors.product() * 0.9 + clients[1].factors.product() * 0.1;
  const double error = (stacked.product() - mean).abs().max().item<double>();
  std::printf("stacked rank %lld, largest error %.1e\n", static_cast<long long>(stacked.rank()),
              error);
  return stacked.rank() == 10 && error < 1e-4 ? 0 : 1;
}
