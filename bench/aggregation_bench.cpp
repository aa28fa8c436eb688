// What the coordinator does in a round, at the shapes of a 7B model: stacking, compaction,
// the gate, and a whole rule from files. docs/measurements.md has the figures beside the peers'.

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linalg_svd.h>
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include "aggregation/compaction.h"
#include "aggregation/gate_checks.h"
#include "aggregation/rules.h"
#include "aggregation/stacking.h"
#include "core/check.h"
#include "tensors/factor_set_io.h"
#include "tensors/random.h"
#include "tensors/threads.h"

namespace drystone::aggregation {
namespace {

constexpr int64_t kDim = 4096;

/// Ranks 4, 8, 16, 32, 64 in turn, as the peers' script has them.
std::vector<ScaledFactors> made_clients(int64_t count, int64_t dim) {
  const int64_t ranks[] = {4, 8, 16, 32, 64};
  std::vector<ScaledFactors> clients;
  for (int64_t k = 0; k < count; ++k) {
    const int64_t rank = ranks[k % 5];
    const auto round = static_cast<std::uint64_t>(k);
    clients.push_back({{.b = tensors::random_normal({.round = round, .purpose = "b"}, {dim, rank}),
                        .a = tensors::random_normal({.round = round, .purpose = "a"}, {rank, dim})},
                       1.0 / static_cast<double>(count)});
  }
  return clients;
}

int64_t bytes_of(const std::vector<ScaledFactors>& clients) {
  std::size_t bytes = 0;
  for (const auto& [factors, scale] : clients) bytes += factors.b.nbytes() + factors.a.nbytes();
  return static_cast<int64_t>(bytes);
}

/// One thread, unless the benchmark's second argument says otherwise.
void set_threads(int64_t count) { tensors::use_threads(static_cast<int>(count)); }

void stack_into_buffer(benchmark::State& state, at::ScalarType dtype) {
  set_threads(1);
  const auto clients = made_clients(state.range(0), kDim);
  StackBuffer buffer(dtype);
  core::ensure(
      at::equal(buffer.fill(clients).b.narrow(1, 0, 4).to(at::kFloat), clients.front().factors.b),
      "stack_into_buffer: not the first client's columns");
  for (auto _ : state) benchmark::DoNotOptimize(buffer.fill(clients).b.const_data_ptr());
  state.SetBytesProcessed(state.iterations() * bytes_of(clients));
}

void BM_Stack(benchmark::State& state) { stack_into_buffer(state, at::kFloat); }
BENCHMARK(BM_Stack)->Arg(10)->Arg(100)->Unit(benchmark::kMillisecond);

void BM_StackFloat64(benchmark::State& state) { stack_into_buffer(state, at::kDouble); }
BENCHMARK(BM_StackFloat64)->Arg(10)->Arg(100)->Unit(benchmark::kMillisecond);

/// What one writes first: scaled copies, then a concatenation.
void BM_StackByCat(benchmark::State& state) {
  set_threads(1);
  const auto clients = made_clients(state.range(0), kDim);
  for (auto _ : state) {
    std::vector<at::Tensor> a_blocks;
    std::vector<at::Tensor> b_blocks;
    for (const auto& [factors, scale] : clients) {
      a_blocks.push_back(factors.a * scale);
      b_blocks.push_back(factors.b);
    }
    const at::Tensor b = at::cat(b_blocks, 1);
    const at::Tensor a = at::cat(a_blocks, 0);
    benchmark::DoNotOptimize(b.const_data_ptr());
    benchmark::DoNotOptimize(a.const_data_ptr());
  }
  state.SetBytesProcessed(state.iterations() * bytes_of(clients));
}
BENCHMARK(BM_StackByCat)->Arg(10)->Arg(100)->Unit(benchmark::kMillisecond);

/// The bound: as many bytes by memcpy.
void BM_Memcpy(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(bytes_of(made_clients(state.range(0), kDim)));
  const std::vector<char> source(bytes, 1);
  std::vector<char> target(bytes);
  for (auto _ : state) {
    std::memcpy(target.data(), source.data(), bytes);
    benchmark::DoNotOptimize(target.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes));
}
BENCHMARK(BM_Memcpy)->Arg(10)->Arg(100)->Unit(benchmark::kMillisecond);

void BM_Compact(benchmark::State& state) {
  set_threads(state.range(1));
  const auto clients = made_clients(10, state.range(0));
  StackBuffer buffer(at::kDouble);
  const tensors::Factors stacked = buffer.fill(clients);
  const Compaction lossless = {.kind = CompactionKind::Lossless};
  const at::Tensor product = compact(stacked, lossless).factors.product();
  core::ensure(at::allclose(product, stacked.product().to(at::kFloat), 1e-3, 1e-3),
               "BM_Compact: not the same product");
  for (auto _ : state) {
    benchmark::DoNotOptimize(compact(stacked, lossless).factors.b.const_data_ptr());
  }
  state.counters["rank"] = static_cast<double>(stacked.rank());
}
BENCHMARK(BM_Compact)
    ->Args({384, 1})
    ->Args({1024, 1})
    ->Args({4096, 1})
    ->Args({4096, 2})
    ->Unit(benchmark::kMillisecond);

/// What compaction saves: the product and its SVD, in float32. Minutes at 4096.
void BM_DenseSvd(benchmark::State& state) {
  set_threads(1);
  const auto clients = made_clients(10, state.range(0));
  const tensors::Factors stacked = StackBuffer().fill(clients);
  for (auto _ : state) {
    const auto [u, sigma, v] = at::linalg_svd(stacked.product(), /*full_matrices=*/false);
    benchmark::DoNotOptimize(sigma.const_data_ptr());
  }
}
BENCHMARK(BM_DenseSvd)
    ->Arg(384)
    ->Arg(1024)
    ->Arg(4096)
    ->Unit(benchmark::kMillisecond)
    ->Iterations(1);

tensors::FactorSet made_update(int64_t num_modules, int64_t rank, std::uint64_t seed) {
  tensors::FactorSet update;
  for (int64_t m = 0; m < num_modules; ++m) {
    const std::string name = "layers." + std::to_string(m) + ".q_proj";
    update.modules[name] = {
        .b = tensors::random_normal({.seed = seed, .purpose = name + "b"}, {kDim, rank}),
        .a = tensors::random_normal({.seed = seed, .purpose = name + "a"}, {rank, kDim})};
  }
  return update;
}

AdapterLayout layout_of(const tensors::FactorSet& update) {
  AdapterLayout layout;
  for (const auto& [name, factors] : update.modules) {
    layout.modules[name] = {.out = factors.out_features(), .in = factors.in_features()};
  }
  return layout;
}

void BM_Gate(benchmark::State& state) {
  set_threads(1);
  const tensors::FactorSet update = made_update(16, 16, 1);
  const AdapterLayout plan = layout_of(update);
  const core::Bytes payload = tensors::to_bytes(update);
  for (auto _ : state) {
    core::ensure(check_payload(payload, plan, 64).has_value(), "BM_Gate: refused");
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(payload.size()));
}
BENCHMARK(BM_Gate)->Unit(benchmark::kMillisecond);

void BM_CheckFinite(benchmark::State& state) {
  const core::Bytes values(std::size_t{64} << 20, 0);
  for (auto _ : state) {
    core::ensure(check_finite(values).has_value(), "BM_CheckFinite: refused");
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(values.size()));
}
BENCHMARK(BM_CheckFinite)->Unit(benchmark::kMillisecond);

/// Ten clients of FLoRA's ranks, eight modules, files in and file out.
void BM_RuleFromFiles(benchmark::State& state, const char* rule) {
  set_threads(1);
  std::string folder = (std::filesystem::temp_directory_path() / "drystone-XXXXXX").string();
  core::ensure(::mkdtemp(folder.data()) != nullptr, "BM_RuleFromFiles: mkdtemp failed");
  AggregationJob job{.updates = {}, .carry_in = {}, .output = folder + "/out", .carry_out = {}};
  std::uintmax_t bytes = 0;
  for (const int64_t rank : {64, 32, 16, 16, 8, 8, 4, 4, 4, 4}) {
    const std::string client = std::to_string(job.updates.size());
    job.updates.push_back({client, 100, folder + "/" + client});
    tensors::write_factor_set(job.updates.back().payload, made_update(8, rank, job.updates.size()));
    bytes += std::filesystem::file_size(job.updates.back().payload);
  }
  core::AggregationConfig config;
  config.rule = rule;
  const auto made = make_rule(config);
  for (auto _ : state) benchmark::DoNotOptimize(made->aggregate(job).stack_rank);
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes));
  std::filesystem::remove_all(folder);
}
BENCHMARK_CAPTURE(BM_RuleFromFiles, flora, "flora")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_RuleFromFiles, zero_pad, "zero-pad")->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace drystone::aggregation

BENCHMARK_MAIN();
