// How far A moves in a step when every round starts from B = 0: LoRA-Pro and LoRA-RITE as
// published, and with their remedies. Four clients learn a low-rank change of a 256 x 256 linear
// from data of their own, rank 8; three rounds of 20 steps, merged by their mean; two learning
// rates.
// Run: build/bin/pair_shock | .venv/bin/python bench/pair_shock.py docs/methods/pair-shock.svg

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mse_loss.h>

#include "adapters/registry.h"
#include "models/linear.h"
#include "tensors/random.h"

namespace {

using namespace drystone;

constexpr std::int64_t kSide = 256;
constexpr std::int64_t kExamples = 512;
constexpr std::int64_t kSteps = 20;
constexpr int kClients = 4;
constexpr int kRounds = 3;

at::Tensor normal(std::uint64_t seed, at::IntArrayRef shape, double deviation) {
  return tensors::random_normal({.seed = seed}, shape, 0.0, deviation);
}

/// ‖X·Wᵀ − X·W*ᵀ‖² / 2 on one client's X.
class Regression final : public models::Model {
 public:
  explicit Regression(const at::Tensor& weight) {
    linear_.name = "dense";
    linear_.weight = weight;
  }
  void set_data(const at::Tensor& x, const at::Tensor& y) {
    x_ = x;
    y_ = y;
  }
  at::Tensor logits(const models::Batch&) override { return linear_.forward(x_); }
  at::Tensor loss(const at::Tensor& logits, const models::Batch&) const override {
    return at::mse_loss(logits, y_);
  }
  std::vector<models::Linear*> linears() override { return {&linear_}; }
  std::map<std::string, at::Tensor*> dense() override { return {}; }
  void set_training(bool, std::uint64_t) override {}
  models::Linear& linear() { return linear_; }

 private:
  at::Tensor x_, y_;
  models::Linear linear_;
};

struct Remedy {
  const char* method;
  const char* name;
  core::Options options;
};

/// Trains one client of one round. @return  its ΔW
at::Tensor train(Regression& model, const Remedy& remedy, const adapters::AdapterStart& start,
                 double rate, std::vector<double>& worst) {
  const adapters::AdapterSpec spec{
      .method = remedy.method, .rank = 8, .alpha = 16.0, .options = remedy.options};
  const auto adapter = adapters::make_adapter(model, spec, start);
  const std::vector<adapters::Parameter> parameters = adapter->parameters();
  const auto optimizer = adapter->make_optimizer(parameters, {});
  for (adapters::Step step{.index = 0, .total = kSteps}; step.index < kSteps; ++step.index) {
    const at::Tensor before = parameters.front().tensor.detach().clone();
    adapter->before_step(step);
    optimizer->zero_grad();
    const models::Batch none{};
    model.loss(model.logits(none), none).backward();
    optimizer->step(rate);
    adapter->after_step(step);
    const at::Tensor moved = parameters.front().tensor.detach() - before;
    double& place = worst[static_cast<std::size_t>(step.index)];
    place = std::max(place, (moved.norm() / before.norm()).item<double>());
  }
  return adapter->export_delta().at("dense").product();
}

/// @param noise  deviation of the targets' noise; without any, gradients have the change's rank
void run(const Remedy& remedy, double rate, double noise) {
  const double scale = 1.0 / 16.0;  // 1 / √side
  const at::Tensor start = normal(1, {kSide, kSide}, scale);
  const at::Tensor change = at::mm(normal(2, {kSide, 4}, 0.5), normal(3, {4, kSide}, 0.5 * scale));
  Regression model(start);
  for (std::uint64_t round = 1; round <= kRounds; ++round) {
    std::vector<double> worst(kSteps, 0.0);
    at::Tensor sum;
    for (int client = 0; client < kClients; ++client) {
      const auto seed = static_cast<std::uint64_t>(10 + client);
      const at::Tensor x = normal(seed, {kExamples, kSide}, 1.0);
      model.set_data(
          x, at::linear(x, start + change) + normal(seed + 50, {kExamples, kSide}, 1.0) * noise);
      const at::Tensor delta =
          train(model, remedy, {.seed = 5, .round = round, .client = std::to_string(client)}, rate,
                worst);
      sum = sum.defined() ? sum + delta : delta;
    }
    model.linear().weight = model.linear().weight + sum / static_cast<double>(kClients);
    const at::Tensor left = model.linear().weight - start - change;
    const double error = (left.norm() / change.norm()).item<double>();
    for (std::int64_t step = 0; step < kSteps; ++step) {
      std::printf("%s,%s,%g,%s,%d,%d,%.4f,%.4f\n", remedy.method, remedy.name, rate,
                  noise > 0.0 ? "noisy" : "exact", static_cast<int>(round),
                  static_cast<int>(step + 1), worst[static_cast<std::size_t>(step)], error);
    }
  }
}

}  // namespace

int main() {
  at::set_num_threads(1);
  const std::int64_t none = 0;
  const std::vector<Remedy> remedies = {
      {"lora-pro",
       "as published",
       {{"mode", std::string("full")}, {"damping", 0.0}, {"warmup", none}}},
      {"lora-pro",
       "damping 0.01",
       {{"mode", std::string("full")}, {"damping", 0.01}, {"warmup", none}}},
      {"lora-pro",
       "warmup 10",
       {{"mode", std::string("full")}, {"damping", 0.0}, {"warmup", std::int64_t{10}}}},
      {"lora-pro", "default", {{"mode", std::string("full")}}},
      {"lora-rite", "as published", {{"damping", 0.0}, {"warmup", none}}},
      {"lora-rite", "damping 0.01", {{"warmup", none}, {"damping", 0.01}}},
      {"lora-rite", "warmup 10", {{"damping", 0.0}, {"warmup", std::int64_t{10}}}},
      {"lora-rite", "default", {}},
  };
  std::printf("method,remedy,rate,targets,round,step,shock,error\n");
  for (const Remedy& remedy : remedies) {
    run(remedy, 2e-3, 0.3);
    run(remedy, 2e-4, 0.3);
    run(remedy, 2e-3, 0.0);
  }
  return 0;
}
