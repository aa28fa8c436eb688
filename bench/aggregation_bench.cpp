// What the coordinator computes for one square module: stacking, and lossless compaction of the
// stack. Arguments: width of the module, clients, rank of each.

#include <cstdint>
#include <stdexcept>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/randn.h>
#include <benchmark/benchmark.h>

#include "aggregation/compaction.h"
#include "aggregation/stacking.h"

namespace {

using drystone::aggregation::Compaction;
using drystone::aggregation::WeightedFactors;

std::vector<WeightedFactors> clients_of(const benchmark::State& state) {
  const std::int64_t width = state.range(0);
  const std::int64_t rank = state.range(2);
  std::vector<WeightedFactors> clients;
  for (std::int64_t k = 0; k < state.range(1); ++k) {
    clients.push_back({.factors = {.b = at::randn({width, rank}), .a = at::randn({rank, width})},
                       .weight = static_cast<double>(k + 1)});
  }
  return clients;
}

std::int64_t num_bytes(const drystone::tensors::Factors& factors) {
  return static_cast<std::int64_t>(factors.a.nbytes() + factors.b.nbytes());
}

void stacking(benchmark::State& state) {
  at::set_num_threads(1);
  const auto clients = clients_of(state);
  const auto once = drystone::aggregation::stack(clients);
  if (once.rank() != state.range(1) * state.range(2)) {
    throw std::logic_error("stacking_bench: wrong rank");
  }
  for (auto _ : state) {
    benchmark::DoNotOptimize(drystone::aggregation::stack(clients));
  }
  state.SetBytesProcessed(state.iterations() * num_bytes(once));
}
BENCHMARK(stacking)
    ->Args({384, 10, 16})
    ->Args({4096, 10, 16})
    ->Args({4096, 100, 16})
    ->UseRealTime();

void compaction(benchmark::State& state) {
  at::set_num_threads(1);
  const auto stack = drystone::aggregation::stack(clients_of(state));
  const Compaction lossless;
  const auto once = drystone::aggregation::compact(stack, lossless);
  if (!at::allclose(once.factors.product(), stack.product(), /*rtol=*/1e-3, /*atol=*/1e-3)) {
    throw std::logic_error("compaction_bench: not the same product");
  }
  for (auto _ : state) {
    benchmark::DoNotOptimize(drystone::aggregation::compact(stack, lossless));
  }
}
BENCHMARK(compaction)
    ->Args({384, 10, 16})
    ->Args({4096, 10, 16})
    ->Args({4096, 10, 25})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
