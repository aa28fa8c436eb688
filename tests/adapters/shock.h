#pragma once
// A small federation with a fresh start in every round, for what happens to A after B = 0.

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "adapters/registry.h"
#include "toy_model.h"

namespace drystone::test {

/// max ‖dA‖ / ‖A‖ over the steps, modules, clients and rounds of two clients that train three
/// rounds of twelve steps, each from A fresh and B = 0 on the merged weights.
inline double worst_shock(const adapters::AdapterSpec& spec, double rate) {
  constexpr std::int64_t kSteps = 12;
  double worst = 0.0;
  ToyModel model;
  for (std::uint64_t round = 1; round <= 3; ++round) {
    std::map<std::string, at::Tensor> mean;
    for (const char* client : {"first", "second"}) {
      const models::Batch batch = toy_batch(client[0], /*rows=*/32);
      const auto adapter = make_adapter(model, spec, {.seed = 3, .round = round, .client = client});
      const auto parameters = adapter->parameters();
      const auto optimizer = adapter->make_optimizer(parameters, {});
      for (adapters::Step step{.index = 0, .total = kSteps}; step.index < kSteps; ++step.index) {
        const adapters::TensorMap before = adapter->state();
        adapter->before_step(step);
        optimizer->zero_grad();
        model.loss(model.logits(batch), batch).backward();
        optimizer->step(rate);
        adapter->after_step(step);
        for (const adapters::Parameter& parameter : parameters) {
          if (!parameter.name.ends_with("lora_A")) continue;
          const at::Tensor& old = before.at(parameter.name);
          const at::Tensor ratio = (parameter.tensor.detach() - old).norm() / old.norm();
          worst = std::max(worst, ratio.item<double>());
        }
      }
      for (const auto& [name, factors] : adapter->export_delta()) {
        const at::Tensor half = factors.product() * 0.5;
        mean[name] = mean.contains(name) ? mean[name] + half : half;
      }
    }
    for (models::Linear* linear : model.linears()) {
      linear->weight = linear->weight + mean.at(linear->name);
    }
  }
  return worst;
}

}  // namespace drystone::test
