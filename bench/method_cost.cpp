// What a training step costs with each method: forward, backward and optimiser on one linear of
// MiniLM's feed-forward size (1536 x 384), 16 x 64 tokens, rank 8, one thread.
// Run: build/bin/method_cost [repetitions]

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/linear.h>

#include "adapters/registry.h"
#include "models/linear.h"
#include "tensors/random.h"

namespace {

using namespace drystone;

constexpr std::int64_t kIn = 384;
constexpr std::int64_t kOut = 1536;
constexpr std::int64_t kRows = 16;
constexpr std::int64_t kTokens = 64;
constexpr std::int64_t kClasses = 20;

/// One linear, the mean over tokens, and a frozen head.
class OneLinear final : public models::Model {
 public:
  OneLinear()
      : x_(tensors::random_normal({.seed = 1}, {kRows, kTokens, kIn}).set_requires_grad(true)),
        head_(tensors::random_normal({.seed = 3}, {kClasses, kOut}, 0.0, 0.05)) {
    linear_.name = "dense";
    linear_.weight = tensors::random_normal({.seed = 2}, {kOut, kIn}, 0.0, 0.05);
  }
  at::Tensor logits(const models::Batch&) override {
    return at::linear(linear_.forward(x_).mean(1), head_);
  }
  at::Tensor loss(const at::Tensor& logits, const models::Batch& batch) const override {
    return at::cross_entropy_loss(logits, batch.labels);
  }
  std::vector<models::Linear*> linears() override { return {&linear_}; }
  std::map<std::string, at::Tensor*> dense() override { return {}; }
  void set_training(bool, std::uint64_t) override {}

 private:
  at::Tensor x_;
  at::Tensor head_;
  models::Linear linear_;
};

double processor_ms() { return 1e3 * static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

/// A row of the table: a method with its defaults, or with some options.
struct Variant {
  std::string name;
  adapters::AdapterSpec spec;
};

std::vector<Variant> variants() {
  std::vector<Variant> all;
  for (const adapters::Method& method : adapters::methods()) {
    const std::string name(method.name);
    all.push_back({.name = name, .spec = {.method = name, .rank = 8}});
    if (name == "lora-pro") {
      all.push_back(
          {.name = "lora-pro full",
           .spec = {.method = name, .rank = 8, .options = {{"mode", std::string("full")}}}});
    }
  }
  return all;
}

/// Milliseconds, of processor time.
struct Cost {
  double start = 0.0;      ///< the adapter's construction
  double step = 0.0;       ///< a whole step, median
  double optimizer = 0.0;  ///< of it in the optimiser, median
};

Cost measure(const adapters::AdapterSpec& spec, int repetitions) {
  OneLinear model;
  const models::Batch batch{
      .input_ids = {}, .pad_mask = {}, .labels = at::arange(kRows), .segments = {}};
  const double before = processor_ms();
  const auto adapter = make_adapter(model, spec, {.seed = 1});
  const double start = processor_ms() - before;
  const auto optimizer = adapter->make_optimizer(adapter->parameters(), {});
  std::vector<double> times;
  std::vector<double> optimizer_times;
  for (adapters::Step step{.index = 0, .total = repetitions}; step.index < repetitions;
       ++step.index) {
    const double begin = processor_ms();
    adapter->before_step(step);
    optimizer->zero_grad();
    const at::Tensor logits = model.logits(batch);
    at::Tensor loss = model.loss(logits, batch);
    const at::Tensor extra =
        adapter->extra_loss({.model = model, .batch = batch, .logits = logits, .step = step});
    if (extra.defined()) loss = loss + extra;
    loss.backward();
    const double backward_end = processor_ms();
    optimizer->step(1e-4);
    optimizer_times.push_back(processor_ms() - backward_end);
    adapter->after_step(step);
    times.push_back(processor_ms() - begin);
  }
  return {.start = start, .step = median(times), .optimizer = median(optimizer_times)};
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(1);
  const int repetitions = argc > 1 ? std::atoi(argv[1]) : 30;
  std::printf("%-14s %10s %10s %10s %13s\n", "method", "start ms", "step ms", "of lora's",
              "optimiser ms");
  double lora = 0.0;
  for (const Variant& variant : variants()) {
    const Cost cost = measure(variant.spec, repetitions);
    if (variant.name == "lora") lora = cost.step;
    std::printf("%-14s %10.1f %10.2f %10.2f %13.2f\n", variant.name.c_str(), cost.start, cost.step,
                cost.step / lora, cost.optimizer);
  }
  return 0;
}
