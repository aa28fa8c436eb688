#include "adapters/optimizer.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/tensor.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "fixture.h"
#include "tests/pretend_device.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

constexpr double kTolerance = 1e-6;  // the same fp32 operations as torch's

at::Tensor flat(const nlohmann::json& values) {
  return at::tensor(values.get<std::vector<float>>());
}

std::vector<Parameter> start_parameters(const nlohmann::json& start) {
  std::vector<Parameter> parameters(2);
  for (std::size_t i = 0; i < 2; ++i) {
    parameters[i].name = "p" + std::to_string(i);
    parameters[i].tensor = flat(start.at(i)).set_requires_grad(true);
  }
  parameters[1].decay_factor = 0.0;
  return parameters;
}

void set_gradients(const std::vector<Parameter>& parameters, const nlohmann::json& gradients) {
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    parameters[i].tensor.mutable_grad() = flat(gradients.at(i));
  }
}

TEST_CASE("AdamW, clipping and the linear schedule: torch's values over 20 steps") {
  const nlohmann::json fixture = test::read_fixture("optimizer.json");
  const nlohmann::json& expected = fixture.at("adamw");
  const auto steps = fixture.at("steps").get<std::int64_t>();
  const std::vector<Parameter> parameters = start_parameters(expected.at("start"));
  AdamW optimizer(parameters, {.weight_decay = 0.1});
  for (std::int64_t step = 0; step < steps; ++step) {
    CAPTURE(step);
    const auto index = static_cast<std::size_t>(step);
    set_gradients(parameters, expected.at("grads").at(index));
    const double norm =
        clip_gradients_(parameters, expected.at("max_norm").get<double>()).item<double>();
    CHECK(norm == doctest::Approx(expected.at("norms").at(index).get<double>()).epsilon(1e-6));
    const double factor =
        schedule_factor(Schedule::Linear, step, steps, fixture.at("warmup").get<double>());
    optimizer.step(expected.at("rate").get<double>() * factor);
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(at::allclose(parameters[i].tensor, flat(expected.at("values").at(index).at(i)),
                         kTolerance, kTolerance));
    }
  }
}

TEST_CASE("schedule_factor: transformers' values without its first step, whose rate is 0") {
  const nlohmann::json fixture = test::read_fixture("optimizer.json");
  const auto steps = fixture.at("steps").get<std::int64_t>();
  for (const auto& [name, factors] : fixture.at("schedules").items()) {
    CAPTURE(name);
    for (std::int64_t step = 0; step < steps; ++step) {
      CHECK(
          schedule_factor(parse_schedule(name), step, steps, fixture.at("warmup").get<double>()) ==
          doctest::Approx(factors.at(static_cast<std::size_t>(step)).get<double>()).epsilon(1e-12));
    }
  }
  CHECK_THROWS_AS(parse_schedule("cosin"), core::ConfigError);
}

TEST_CASE("schedule_factor: every step of every schedule moves something, the only one in full") {
  for (const Schedule schedule : {Schedule::Constant, Schedule::Linear, Schedule::Cosine}) {
    for (const double warmup : {0.0, 0.06, 0.5, 1.0}) {
      CHECK(schedule_factor(schedule, 0, 1, warmup) == 1.0);
      for (std::int64_t total = 2; total <= 40; ++total) {
        double most = 0.0;
        for (std::int64_t step = 0; step < total; ++step) {
          CAPTURE(step);
          CAPTURE(total);
          CAPTURE(warmup);
          const double factor = schedule_factor(schedule, step, total, warmup);
          CHECK(factor > 0.0);
          CHECK(factor <= 1.0);
          most = std::max(most, factor);
        }
        CHECK(most == 1.0);
      }
    }
  }
  CHECK_THROWS_AS(schedule_factor(Schedule::Linear, 3, 3, 0.0), core::InvalidArgument);
}

TEST_CASE("AdamW: a saved state goes on with the same bits") {
  const nlohmann::json expected = test::read_fixture("optimizer.json").at("adamw");
  const std::vector<Parameter> straight = start_parameters(expected.at("start"));
  const std::vector<Parameter> resumed = start_parameters(expected.at("start"));
  AdamW optimizer(straight, {});
  AdamW before(resumed, {});
  for (std::size_t step = 0; step < 5; ++step) {
    set_gradients(straight, expected.at("grads").at(step));
    set_gradients(resumed, expected.at("grads").at(step));
    optimizer.step(1e-2);
    before.step(1e-2);
  }
  AdamW after(resumed, {});
  after.load_state(before.state());
  set_gradients(straight, expected.at("grads").at(5));
  set_gradients(resumed, expected.at("grads").at(5));
  optimizer.step(1e-2);
  after.step(1e-2);
  for (std::size_t i = 0; i < 2; ++i) CHECK(at::equal(straight[i].tensor, resumed[i].tensor));
  auto foreign = before.state();
  foreign["other.steps"] = at::scalar_tensor(1);
  CHECK_THROWS_AS(after.load_state(foreign), core::InvalidArgument);
}

TEST_CASE("AdamW and clipping: another device's groups have the bits of single parameters") {
  const auto train = [](at::Device device) {
    std::vector<Parameter> parameters;
    for (std::int64_t i = 0; i < 6; ++i) {
      const at::Tensor start = test::keyed_normal(static_cast<std::uint64_t>(i), {4, 3 + i});
      parameters.push_back({.name = "p" + std::to_string(i),
                            .tensor = start.to(device).set_requires_grad(true),
                            .decay_factor = i % 2 == 0 ? 1.0 : 0.0,
                            .rate_factor = i < 4 ? 1.0 : 2.0});
    }
    AdamW optimizer(parameters, {.weight_decay = 0.1});
    for (std::uint64_t step = 0; step < 4; ++step) {
      optimizer.zero_grad();
      for (std::size_t i = step == 1 ? 1 : 0; i < parameters.size(); ++i) {  // one falls behind
        const at::Tensor& value = parameters[i].tensor;
        value.mutable_grad() = test::keyed_normal(10 * step + i, value.sizes()).to(device);
      }
      clip_gradients_(parameters, 1.0);
      optimizer.step(1e-2);
    }
    std::vector<at::Tensor> values;
    for (const Parameter& parameter : parameters) {
      values.push_back(parameter.tensor.detach().to(at::kCPU));
    }
    return values;
  };
  const auto expected = train(at::kCPU);
  const auto actual = train(test::pretend_device());
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(at::equal(actual[i], expected[i]));
}

TEST_CASE("AdamW: parameters without a gradient stay and do not age") {
  const nlohmann::json expected = test::read_fixture("optimizer.json").at("adamw");
  const std::vector<Parameter> parameters = start_parameters(expected.at("start"));
  AdamW optimizer(parameters, {.weight_decay = 0.1});
  parameters[0].tensor.mutable_grad() = at::ones_like(parameters[0].tensor);
  optimizer.step(1e-2);
  CHECK(at::equal(parameters[1].tensor, flat(expected.at("start").at(1))));
  CHECK_FALSE(optimizer.state().contains("p1.steps"));
  optimizer.zero_grad();
  CHECK_FALSE(parameters[0].tensor.grad().defined());
  CHECK(clip_gradients_(parameters, 1.0).item<double>() == 0.0);
}

}  // namespace
}  // namespace drystone::adapters
