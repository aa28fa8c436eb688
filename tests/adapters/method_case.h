#pragma once
// Replays a case of tests/oracles/method_oracle.py or pair_optimizer_oracle.py: five steps in
// double precision.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>
#include <doctest/doctest.h>

#include "adapters/registry.h"
#include "fixture.h"
#include "linear_model.h"

namespace drystone::test {

/// {"shape": […], "values": […]} as fp64.
inline at::Tensor to_double(const nlohmann::json& json) {
  return at::tensor(json.at("values").get<std::vector<double>>(), at::kDouble)
      .view(json.at("shape").get<std::vector<std::int64_t>>());
}

inline core::Options to_options(const nlohmann::json& json) {
  core::Options options;
  for (const auto& [name, value] : json.items()) {
    if (value.is_string()) {
      options[name] = value.get<std::string>();
    } else if (value.is_boolean()) {
      options[name] = value.get<bool>();
    } else if (value.is_number_integer()) {
      options[name] = value.get<std::int64_t>();
    } else {
      options[name] = value.get<double>();
    }
  }
  return options;
}

/// Sets the leaves "query.<name>". Those that are missing keep their start.
inline void set_leaves(const adapters::Adapter& adapter, const nlohmann::json& values) {
  const at::NoGradGuard no_grad;
  for (const adapters::Parameter& parameter : adapter.parameters()) {
    const std::string name = parameter.name.substr(std::string("query.").size());
    if (values.contains(name)) parameter.tensor.copy_(to_double(values.at(name)));
  }
}

class MethodCase {
 public:
  static constexpr double kTolerance = 1e-6;  // of the specification; double precision gives 1e-10

  explicit MethodCase(const std::string& name, const std::string& file = "method_steps.json")
      : fixture_(read_fixture(file)),
        case_(fixture_.at("cases").at(name)),
        model_(to_double(fixture_.at("weight")), to_double(fixture_.at("x"))),
        batch_(all_rows(model_rows(),
                        at::tensor(fixture_.at("labels").get<std::vector<std::int64_t>>()))) {}

  LinearModel& model() { return model_; }
  const models::Batch& batch() const { return batch_; }
  const nlohmann::json& values() const { return case_; }
  adapters::AdapterSpec spec() const {
    return {.method = case_.at("method").get<std::string>(),
            .rank = fixture_.at("rank").get<std::int64_t>(),
            .alpha = fixture_.at("alpha").get<double>(),
            .options = to_options(case_.at("options"))};
  }

  /// Trains from the fixture's start as the trainer does.
  void train(adapters::Adapter& adapter) {
    const auto optimizer = adapter.make_optimizer(
        adapter.parameters(), {.weight_decay = fixture_.at("decay").get<double>()});
    const std::int64_t steps = fixture_.at("steps").get<std::int64_t>();
    for (adapters::Step step{.index = 0, .total = steps}; step.index < steps; ++step.index) {
      adapter.before_step(step);
      optimizer->zero_grad();
      const at::Tensor logits = model_.logits(batch_);
      at::Tensor loss = model_.loss(logits, batch_);
      const at::Tensor extra =
          adapter.extra_loss({.model = model_, .batch = batch_, .logits = logits, .step = step});
      if (extra.defined()) loss = loss + extra;
      loss.backward();
      optimizer->step(fixture_.at("rate").get<double>());
      adapter.after_step(step);
    }
  }

  void check_end(const adapters::Adapter& adapter) const {
    for (const adapters::Parameter& parameter : adapter.parameters()) {
      CAPTURE(parameter.name);
      const std::string name = parameter.name.substr(std::string("query.").size());
      const at::Tensor expected = to_double(case_.at("end").at(name));
      CHECK((parameter.tensor - expected).abs().max().item<double>() < kTolerance);
    }
    const tensors::Factors delta = adapter.export_delta().at("query");
    const at::Tensor product = at::mm(delta.b.to(at::kDouble), delta.a.to(at::kDouble));
    CHECK((product - to_double(case_.at("delta"))).abs().max().item<double>() < kTolerance);
  }

 private:
  std::int64_t model_rows() const { return fixture_.at("x").at("shape").at(0).get<std::int64_t>(); }

  nlohmann::json fixture_;
  nlohmann::json case_;
  LinearModel model_;
  models::Batch batch_;
};

/// The whole of it for a method whose leaves are all in the fixture.
inline void check_five_steps(const std::string& name,
                             const std::string& file = "method_steps.json") {
  CAPTURE(name);
  MethodCase replay(name, file);
  const auto adapter = adapters::make_adapter(replay.model(), replay.spec(), {.seed = 5});
  set_leaves(*adapter, replay.values().at("start"));
  replay.train(*adapter);
  replay.check_end(*adapter);
}

/// The largest difference of a leaf's gradient from central differences of `objective`, relative
/// to the gradient's largest entry (or 1). The leaf must be fp64 and contiguous.
template <typename Objective>
double gradient_error(const Objective& objective, const at::Tensor& leaf) {
  leaf.mutable_grad().reset();
  objective().backward();
  const at::Tensor gradient =
      leaf.grad().defined() ? leaf.grad().contiguous() : at::zeros_like(leaf);
  double* values = leaf.mutable_data_ptr<double>();
  double worst = 0.0;
  for (std::int64_t i = 0; i < leaf.numel(); ++i) {
    constexpr double kStep = 1e-6;
    const double kept = values[i];
    values[i] = kept + kStep;
    const double above = objective().template item<double>();
    values[i] = kept - kStep;
    const double below = objective().template item<double>();
    values[i] = kept;
    const double difference = (above - below) / (2 * kStep);
    worst = std::max(worst, std::abs(gradient.const_data_ptr<double>()[i] - difference));
  }
  return worst / std::max(1.0, gradient.abs().max().item<double>());
}

}  // namespace drystone::test
