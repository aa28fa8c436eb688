// Local training as a client does it: LoRA (rank 8) on every linear layer of MiniLM, batches of
// 16 × 64 tokens, the model's own dropout, AdamW; one thread. bench/lora_step.py runs it beside
// transformers with PEFT. Needs the demo's model: DRYSTONE_MINILM, else .data/news/model.

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <benchmark/benchmark.h>

#include "adapters/registry.h"
#include "core/metrics.h"
#include "training/workbench.h"

namespace drystone::training {
namespace {

constexpr std::int64_t kRows = 16;
constexpr std::int64_t kTokens = 64;
constexpr std::int64_t kSteps = 10;

std::filesystem::path model_folder() {
  const char* given = std::getenv("DRYSTONE_MINILM");
  return given != nullptr ? given : ".data/news/model";
}

/// Texts that are longer than a row, so that every batch is full.
std::vector<data::Record> long_texts() {
  std::vector<data::Record> records;
  for (std::int64_t i = 0; i < kRows * kSteps; ++i) {
    std::string text;
    for (std::int64_t word = 0; word < kTokens; ++word) text += "the team won ";
    const std::string label = "class " + std::to_string(i % 20);
    records.push_back({.text = std::move(text), .input_ids = {}, .label = label, .key = {}});
  }
  return records;
}

/// Resident memory now.
double resident_mb() {
  std::ifstream statm("/proc/self/statm");
  double total = 0.0;
  double resident = 0.0;
  statm >> total >> resident;
  return resident * 4096.0 / 1e6;
}

/// One iteration is a local training of kSteps optimiser steps, from the model's making to the
/// exported update.
void lora_step(benchmark::State& state) {
  if (!std::filesystem::exists(model_folder() / "model.safetensors")) {
    state.SkipWithError("no MiniLM; run ./dev demo first or set DRYSTONE_MINILM");
    return;
  }
  WorkbenchConfig config;
  config.model.path = model_folder();
  config.model.max_length = kTokens;
  config.device = "cpu";
  for (int i = 0; i < 20; ++i) config.labels.push_back("class " + std::to_string(i));
  Workbench bench(config);
  bench.add_examples("client", long_texts());
  core::TrainingConfig training;
  training.rank = 8;
  training.batch_size = kRows;
  const RoundTask task{
      .client = "client", .training = adapters::resolve(training), .state = bench.pristine()};
  const double before = resident_mb();
  for (auto _ : state) {
    const auto result = bench.train(task);
    if (!result || result->num_tokens != kRows * kTokens * kSteps) {
      state.SkipWithError("not the work that was meant");
    }
  }
  state.counters["steps"] = static_cast<double>(kSteps);
  state.counters["before_mb"] = before;
  state.counters["peak_mb"] = static_cast<double>(core::peak_rss_bytes()) / 1e6;
}
BENCHMARK(lora_step)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace drystone::training

BENCHMARK_MAIN();
