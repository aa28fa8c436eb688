// The example of docs/adding-a-method.md: a whole method, and the tests that every method deserves.

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "adapters/methods/lora.h"
#include "adapters/side_path.h"
#include "adapters/specification.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

// ---- the method -------------------------------------------------------------------------------

/// ΔW = s·B·A with a random A that stays as it is.
class FrozenALayer final : public SidePath {
 public:
  FrozenALayer(const models::Linear& linear, const AdapterSpec& spec, const AdapterStart& start)
      : SidePath(linear, lora_scale(spec), spec, start),
        a_(placed(fresh_a(start, linear.name, spec.rank, linear.in_features()), linear)),
        b_(make_leaf(at::zeros({linear.out_features(), spec.rank}), linear)) {}

  Pair pair() const override { return {.a = a_, .b = b_}; }
  std::vector<Parameter> parameters() const override {
    return {{.name = module() + ".lora_B", .tensor = b_}};
  }
  at::Tensor penalty() const { return b_.square().sum(); }

 private:
  at::Tensor a_, b_;
};

/// `penalty` pulls B towards zero.
class FrozenA final : public SideAdapter<FrozenALayer> {
 public:
  FrozenA(models::Model& model, const AdapterSpec& spec, const AdapterStart& start)
      : SideAdapter(model, spec, start), penalty_(number(spec, "penalty")) {}

  at::Tensor extra_loss(const LossContext&) override {
    at::Tensor sum = at::zeros({});
    for (const FrozenALayer& layer : layers_) sum = sum + layer.penalty();
    return sum * penalty_;
  }

 private:
  double penalty_;
};

const Method kFrozenA{.name = "frozen-a",
                      .summary = "LoRA with a frozen random A",
                      .options = {{"penalty", 0.0, "weight of the squared norm of B"}},
                      .make = [](models::Model& model, const AdapterSpec& spec,
                                 const AdapterStart& start) -> std::unique_ptr<Adapter> {
                        return std::make_unique<FrozenA>(model, spec, start);
                      }};

// ---- its tests --------------------------------------------------------------------------------

/// Trains a little and returns the task losses.
std::vector<double> train(models::Model& model, Adapter& adapter, std::int64_t steps) {
  const models::Batch batch = test::toy_batch(1, /*rows=*/32);
  const auto optimizer = adapter.make_optimizer(adapter.parameters(), {});
  std::vector<double> losses;
  for (Step step{.index = 0, .total = steps}; step.index < steps; ++step.index) {
    adapter.before_step(step);
    optimizer->zero_grad();
    const at::Tensor logits = model.logits(batch);
    const at::Tensor loss = model.loss(logits, batch);
    losses.push_back(loss.item<double>());
    const at::Tensor extra =
        adapter.extra_loss({.model = model, .batch = batch, .logits = logits, .step = step});
    (loss + extra).backward();
    optimizer->step(1e-2);
    adapter.after_step(step);
  }
  return losses;
}

TEST_CASE("toy method: starts at the base, learns, and its export is what it learnt") {
  test::ToyModel model;
  const models::Batch batch = test::toy_batch(2);
  const at::Tensor plain = model.logits(batch);
  auto adapter = make_adapter(kFrozenA, model, {.rank = 4}, {.seed = 1});
  CHECK(at::equal(model.logits(batch), plain));
  const std::vector<double> losses = train(model, *adapter, 30);
  CHECK(losses.back() < 0.5 * losses.front());

  const at::Tensor adapted = model.logits(batch).detach();
  const auto delta = adapter->export_delta();
  adapter.reset();
  for (models::Linear* linear : model.linears()) {
    linear->weight = linear->weight + delta.at(linear->name).product();
  }
  CHECK(at::allclose(model.logits(batch), adapted, 1e-4, 1e-5));
}

TEST_CASE("toy method: its penalty acts") {
  const auto norm_after = [](double penalty) {
    test::ToyModel model;
    const AdapterSpec spec{.rank = 4, .options = {{"penalty", penalty}}};
    const auto adapter = make_adapter(kFrozenA, model, spec, {.seed = 1});
    train(model, *adapter, 30);
    return adapter->export_delta().begin()->second.b.norm().item<double>();
  };
  CHECK(norm_after(1.0) < 0.5 * norm_after(0.0));
}

}  // namespace
}  // namespace drystone::adapters
