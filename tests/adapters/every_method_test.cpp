// What holds for every method in the table.

#include <algorithm>
#include <iterator>
#include <limits>
#include <set>
#include <string>
#include <string_view>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "adapters/registry.h"
#include "core/error.h"
#include "core/text.h"
#include "models/device.h"
#include "tests/pretend_device.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

constexpr std::int64_t kSteps = 6;

AdapterSpec spec_for(const Method& method) {
  return {.method = std::string(method.name), .rank = 3, .alpha = 6.0, .dropout = 0.2};
}

/// Without those that pass over the data only (laplace_lora_test.cpp).
std::vector<Method> trained_methods() {
  std::vector<Method> trained;
  std::ranges::copy_if(methods(), std::back_inserter(trained), &Method::trains);
  return trained;
}

const AdapterStart kStart{.seed = 3, .round = 1, .client = "c"};

/// An adapter and its optimiser in the middle of a local training.
struct Training {
  Training(test::ToyModel& toy, const AdapterSpec& spec, const AdapterStart& start = kStart)
      : model(toy),
        device(toy.linears().front()->device()),
        adapter(make_adapter(toy, spec, start)),
        parameters(adapter->parameters()) {
    optimizer = adapter->make_optimizer(parameters, {.weight_decay = 0.01});
  }
  void run(std::int64_t first, std::int64_t last) {
    const models::Batch batch = test::moved(test::toy_batch(1, /*rows=*/32), device);
    for (Step step{.index = first, .total = kSteps}; step.index < last; ++step.index) {
      adapter->before_step(step);
      optimizer->zero_grad();
      backward(batch, step, /*with_extra=*/true);
      adapter->on_gradients(step);
      optimizer->step(kRate);
      adapter->after_step(step);
      if (adapter->held_out_share() > 0.0) upper_step(batch, step);
    }
  }

  test::ToyModel& model;
  at::Device device;
  std::unique_ptr<Adapter> adapter;
  std::vector<Parameter> parameters;
  std::unique_ptr<Optimizer> optimizer;
  at::Tensor task_loss;

 private:
  static constexpr double kRate = 1e-2;

  void backward(const models::Batch& batch, const Step& step, bool with_extra) {
    const at::Tensor logits = model.logits(batch);
    at::Tensor loss = model.loss(logits, batch);
    if (with_extra) {
      task_loss = loss.detach();
      const at::Tensor seen = adapter->needs_logits() ? logits : at::Tensor();
      const at::Tensor extra =
          adapter->extra_loss({.model = model, .batch = batch, .logits = seen, .step = step});
      if (extra.defined()) loss = loss + extra;
    }
    loss.backward();
  }
  void upper_step(const models::Batch& last, const Step& step) {
    const models::Batch held_out = test::moved(test::toy_batch(2, /*rows=*/8), device);
    const auto pass = [&](UpperContext::Data which) {
      const bool is_last = which == UpperContext::Data::LastBatch;
      backward(is_last ? last : held_out, step, is_last);
    };
    adapter->upper_step(
        {.step = step, .learning_rate = kRate, .parameters = parameters, .backward = pass});
  }
};

bool same(const TensorMap& one, const TensorMap& other) {
  return one.size() == other.size() &&
         std::equal(one.begin(), one.end(), other.begin(), [](const auto& x, const auto& y) {
           return x.first == y.first && at::equal(x.second, y.second);
         });
}

bool is_float(const at::Tensor& tensor) { return tensor.scalar_type() == at::kFloat; }

TEST_CASE(
    "every method: the export on the base is the trained model; the base is never written to") {
  for (const Method& method : trained_methods()) {
    CAPTURE(method.name);
    test::ToyModel model;
    const models::Batch batch = test::toy_batch(4);
    std::vector<at::Tensor> handles;
    std::vector<at::Tensor> copies;
    for (const models::Linear* linear : model.linears()) {
      handles.push_back(linear->weight);
      copies.push_back(linear->weight.clone());
    }
    const AdapterSpec spec = spec_for(method);
    Training training(model, spec);
    training.run(0, kSteps);
    const at::Tensor adapted = model.logits(batch).detach();
    const auto delta = training.adapter->export_delta();
    training.adapter.reset();
    for (std::size_t i = 0; i < handles.size(); ++i) {
      models::Linear& linear = *model.linears()[i];
      CHECK(linear.adapter == nullptr);
      CHECK(linear.weight.is_same(handles[i]));
      CHECK(at::equal(linear.weight, copies[i]));
      const auto found = delta.find(linear.name);
      REQUIRE(found != delta.end());
      CHECK(found->second.rank() <= export_rank(spec));
      CHECK(is_float(found->second.a));
      CHECK_FALSE(found->second.b.requires_grad());
      linear.weight = linear.weight + found->second.product();
    }
    CHECK(at::allclose(model.logits(batch), adapted, 1e-4, 1e-5));
  }
}

TEST_CASE("every method: learns, and the same start gives the same bits") {
  for (const Method& method : trained_methods()) {
    CAPTURE(method.name);
    const auto train = [&] {
      test::ToyModel model;
      Training training(model, spec_for(method));
      training.run(0, 1);
      const at::Tensor first = training.task_loss;
      training.run(1, kSteps);
      CHECK((training.task_loss < first).item<bool>());
      return training.adapter->state();
    };
    CHECK(same(train(), train()));
  }
}

TEST_CASE("every method: a resumed training has the bits of one that went through") {
  for (const Method& method : trained_methods()) {
    CAPTURE(method.name);
    test::ToyModel whole_model;
    Training whole(whole_model, spec_for(method));
    whole.run(0, 4);
    const TensorMap state = whole.adapter->state();
    const auto optimizer_state = whole.optimizer->state();
    whole.run(4, kSteps);

    test::ToyModel model;
    Training resumed(model, spec_for(method));
    resumed.adapter->load_state(state);
    resumed.optimizer->load_state(optimizer_state);
    resumed.run(4, kSteps);
    CHECK(same(resumed.adapter->state(), whole.adapter->state()));
    CHECK(same(resumed.optimizer->state(), whole.optimizer->state()));
    const auto resumed_delta = resumed.adapter->export_delta();
    for (const auto& [name, factors] : whole.adapter->export_delta()) {
      CHECK(at::equal(resumed_delta.at(name).product(), factors.product()));
    }
    TensorMap foreign = state;
    foreign.begin()->second = at::zeros({1, 1, 1});
    CHECK_THROWS_AS(resumed.adapter->load_state(foreign), core::InvalidArgument);
  }
}

TEST_CASE("every method: a later round continues from what was published, and adds to it") {
  for (const Method& method : trained_methods()) {
    CAPTURE(method.name);
    test::ToyModel model;
    const models::Batch batch = test::toy_batch(4);
    std::map<std::string, at::Tensor> pristine;
    for (const models::Linear* linear : model.linears()) pristine[linear->name] = linear->weight;
    AdapterStart start = kStart;
    start.pristine = &pristine;
    for (start.round = 1; start.round <= 3; ++start.round) {
      CAPTURE(start.round);
      const at::Tensor published = model.logits(batch).detach();
      Training training(model, spec_for(method), start);
      if (start.round > 1) CHECK(at::allclose(model.logits(batch), published, 1e-4, 1e-5));
      training.run(0, kSteps);
      const at::Tensor adapted = model.logits(batch).detach();
      const auto delta = training.adapter->export_delta();
      training.adapter.reset();
      for (models::Linear* linear : model.linears()) {
        linear->weight = linear->weight + delta.at(linear->name).product();
      }
      CHECK(at::allclose(model.logits(batch), adapted, 1e-4, 1e-5));
      CHECK_FALSE(at::allclose(adapted, published, 1e-3, 1e-3));
    }
  }
}

TEST_CASE("every method: trains fp32 leaves on a bfloat16 base") {
  for (const Method& method : trained_methods()) {
    CAPTURE(method.name);
    test::ToyModel model;
    model.set_dtype(at::kBFloat16);
    Training training(model, spec_for(method));
    for (const Parameter& parameter : training.adapter->parameters()) {
      CHECK(is_float(parameter.tensor));
    }
    training.run(0, kSteps);
    const auto delta = training.adapter->export_delta();
    CHECK(delta.begin()->second.b.abs().max().item<float>() > 0.0F);
  }
}

TEST_CASE("every method: in bfloat16 it learns what it learns in float32") {
  for (const Method& method : trained_methods()) {
    for (const bool quantized : {false, true}) {
      CAPTURE(method.name);
      CAPTURE(quantized);
      const auto train = [&](bool bfloat16) {
        test::ToyModel model;
        if (quantized) model.quantize();
        model.set_bfloat16(bfloat16);
        Training training(model, spec_for(method));
        training.run(0, kSteps);
        for (const Parameter& parameter : training.parameters) CHECK(is_float(parameter.tensor));
        return training.task_loss.item<double>();
      };
      const double rounded = train(true);
      const double expected = train(false);
      CHECK(rounded != expected);
      CHECK(rounded == doctest::Approx(expected).epsilon(0.02));
    }
  }
}

TEST_CASE("every method: trains beside 4-bit weights; the export stands beside them as well") {
  for (const Method& method : trained_methods()) {
    CAPTURE(method.name);
    test::ToyModel model;
    model.quantize();
    const models::Batch batch = test::toy_batch(4);
    Training training(model, spec_for(method));
    training.run(0, kSteps);
    const at::Tensor adapted = model.logits(batch).detach();
    const auto delta = training.adapter->export_delta();
    training.adapter.reset();
    for (models::Linear* linear : model.linears()) linear->side = delta.at(linear->name);
    CHECK(at::allclose(model.logits(batch), adapted, 1e-4, 1e-5));
    // A later round starts beside what was published.
    const auto next = make_adapter(model, spec_for(method), kStart);
    CHECK(at::allclose(model.logits(batch), adapted, 1e-4, 1e-5));
  }
}

void compare_with_cpu(at::Device device) {
  for (const Method& method : trained_methods()) {
    for (const bool quantized : {false, true}) {
      CAPTURE(method.name);
      CAPTURE(quantized);
      const auto train = [&](at::Device where) {
        test::ToyModel model;
        model.move(where);
        if (quantized) model.quantize();
        AdapterSpec spec = spec_for(method);
        spec.dropout = 0.0;  // the devices' masks differ
        Training training(model, spec);
        training.run(0, kSteps);
        return training.adapter->export_delta();
      };
      const auto expected = train(at::kCPU);
      std::size_t num_compared = 0;
      for (const auto& [name, factors] : train(device)) {
        const at::Tensor product = factors.product().to(at::kCPU);
        ++num_compared;
        CHECK(at::allclose(product, expected.at(name).product(), 1e-2, 1e-4));
      }
      CHECK(num_compared == expected.size());
    }
  }
}

TEST_CASE("every method: a GPU trains what the CPU trains") {
  if (!models::parse_device("auto").is_cuda()) {
    MESSAGE("no GPU: nothing to compare");
    return;
  }
  compare_with_cpu(at::kCUDA);
}

TEST_CASE("every method: another device trains what the CPU trains") {
  compare_with_cpu(test::pretend_device());
}

TEST_CASE("every method: a step waits for the device only for linear algebra") {
  const std::set<std::string_view> solvers = {"bilora", "lora-pro", "lora-rite"};
  for (const Method& method : trained_methods()) {
    CAPTURE(method.name);
    test::ToyModel model;
    model.own_dropout = 0.0;
    model.move(test::pretend_device());
    Training training(model, spec_for(method));
    training.run(0, kSteps - 1);
    test::take_waits();
    training.run(kSteps - 1, kSteps);
    const std::string waits = core::join(test::take_waits());
    CAPTURE(waits);
    CHECK(waits.empty() != solvers.contains(method.name));
  }
}

TEST_CASE("every method: continues from averaged factors or says that it cannot") {
  for (const Method& method : trained_methods()) {
    CAPTURE(method.name);
    test::ToyModel model;
    std::map<std::string, tensors::Factors> published;
    for (const models::Linear* linear : model.linears()) {
      published[linear->name] = {.b = test::keyed_normal(1, {linear->out_features(), 3}),
                                 .a = test::keyed_normal(2, {3, linear->in_features()})};
    }
    const AdapterStart start{.seed = 1, .round = 2, .client = "c", .factors = &published};
    if (!method.continues) {
      CHECK_THROWS_WITH_AS(make_adapter(model, spec_for(method), start), doctest::Contains("flora"),
                           core::ConfigError);
      continue;
    }
    const auto delta = make_adapter(model, spec_for(method), start)->export_delta();
    for (const auto& [name, factors] : delta) {
      CHECK(at::allclose(factors.product(), published.at(name).product(), 1e-4, 1e-5));
    }
  }
}

TEST_CASE("every method: its rank_limit is the largest rank that it can be made with") {
  test::ToyModel toy;
  for (const Method& method : trained_methods()) {
    CAPTURE(method.name);
    if (method.rank_limit == nullptr) continue;
    AdapterSpec spec = spec_for(method);
    spec.rank = std::numeric_limits<std::int64_t>::max();
    for (const models::Linear* linear : toy.linears()) {
      spec.rank =
          std::min(spec.rank, method.rank_limit(linear->out_features(), linear->in_features()));
    }
    CHECK_NOTHROW(make_adapter(toy, spec, kStart));
    ++spec.rank;
    CHECK_THROWS_WITH_AS(make_adapter(toy, spec, kStart),
                         doctest::Contains(std::to_string(spec.rank).c_str()), core::ConfigError);
  }
}

TEST_CASE("every method: options out of range are refused with the bounds or the choices") {
  for (const Method& method : methods()) {
    CAPTURE(method.name);
    for (const MethodOption& option : method.options) {
      CAPTURE(option.name);
      CHECK_FALSE(option.help.empty());
      AdapterSpec spec = spec_for(method);
      const std::string name(option.name);
      if (std::holds_alternative<std::string>(option.default_value)) {
        spec.options[name] = std::string("nonsense");
        CHECK_THROWS_WITH_AS(validate(spec), doctest::Contains("use one of"), core::ConfigError);
      } else if (!std::holds_alternative<bool>(option.default_value)) {
        spec.options[name] = std::int64_t{-1000000000};
        CHECK_THROWS_WITH_AS(validate(spec), doctest::Contains("is not between"),
                             core::ConfigError);
      }
    }
    CHECK_NOTHROW(validate(spec_for(method)));
  }
}

}  // namespace
}  // namespace drystone::adapters
