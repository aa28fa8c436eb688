#include "adapters/methods/sbora.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/one_hot.h>
#include <ATen/ops/tensor.h>
#include <doctest/doctest.h>

#include "adapters/lora_linear.h"
#include "adapters/registry.h"
#include "core/error.h"
#include "method_case.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

using test::gradient_error;
using test::keyed_normal;

struct Inputs {
  at::Tensor x = keyed_normal(1, {2, 3, 7}).to(at::kDouble).set_requires_grad(true);
  at::Tensor weight = keyed_normal(2, {5, 7}).to(at::kDouble);
  models::FrozenWeightPtr frozen = c10::make_intrusive<models::FrozenWeight>(weight);
  at::Tensor bias = keyed_normal(3, {5}).to(at::kDouble);
  at::Tensor gradient = keyed_normal(4, {2, 3, 5}).to(at::kDouble);
};

at::Tensor one_hot_rows(const at::Tensor& index, std::int64_t size) {
  return at::one_hot(index, size).to(at::kDouble);
}

TEST_CASE("sbora: gathers and scatters equal LoRA with a one-hot factor, gradients too") {
  const at::Tensor inputs = at::tensor(std::vector<std::int64_t>{4, 0, 6});
  const at::Tensor outputs = at::tensor(std::vector<std::int64_t>{3, 1});
  Inputs in;
  const at::Tensor b = keyed_normal(5, {5, 3}).to(at::kDouble).set_requires_grad(true);
  const at::Tensor a = keyed_normal(6, {2, 7}).to(at::kDouble).set_requires_grad(true);
  const auto gathered = [&] {
    return gathered_linear(in.x, in.frozen, in.bias, inputs, b, 1.7, {});
  };
  const auto scattered = [&] {
    return scattered_linear(in.x, in.frozen, in.bias, outputs, a, 1.7, {});
  };
  const at::Tensor dense_fa =
      lora_linear(in.x, in.weight, in.bias, one_hot_rows(inputs, 7), b, 1.7);
  const at::Tensor dense_fb =
      lora_linear(in.x, in.weight, in.bias, a, one_hot_rows(outputs, 5).t(), 1.7);
  CHECK(at::allclose(gathered(), dense_fa, 1e-12, 1e-12));
  CHECK(at::allclose(scattered(), dense_fb, 1e-12, 1e-12));
  for (const double probability : {0.0, 0.4}) {
    CAPTURE(probability);
    const models::Dropout dropout{.probability = probability, .seed = 77};
    const auto fa = [&] {
      return (gathered_linear(in.x, in.frozen, {}, inputs, b, 0.7, dropout) * in.gradient).sum();
    };
    const auto fb = [&] {
      return (scattered_linear(in.x, in.frozen, {}, outputs, a, 0.7, dropout) * in.gradient).sum();
    };
    CHECK(gradient_error(fa, in.x) < 1e-8);
    CHECK(gradient_error(fa, b) < 1e-8);
    const auto made = [&](const models::LayerInput& x) {
      return (scattered_linear(x, in.frozen, {}, outputs, a, 0.7, dropout) * in.gradient).sum();
    };
    const auto sine = [](const models::Recipe::Sources& sources) { return sources[0].sin(); };
    const auto again = [&] { return made(models::made_from({in.x}, sine)); };
    CHECK(gradient_error(again, in.x) < 1e-8);
    CHECK(gradient_error(again, a) < 1e-8);
    CHECK(gradient_error(fb, in.x) < 1e-8);
    CHECK(gradient_error(fb, a) < 1e-8);
  }
}

TEST_CASE("sbora: only the picked columns or rows of W change; all others keep their bits") {
  for (const char* method : {"sbora-fa", "sbora-fb"}) {
    CAPTURE(method);
    test::ToyModel model;
    const models::Batch batch = test::toy_batch(3);
    const at::Tensor plain = model.logits(batch);
    const auto adapter = make_adapter(model, {.method = method, .rank = 4}, {.seed = 1});
    CHECK(at::equal(model.logits(batch), plain));
    CHECK(adapter->parameters().size() == 2);  // one factor a module
    {
      const at::NoGradGuard no_grad;
      for (const Parameter& p : adapter->parameters()) p.tensor.fill_(0.5);
    }
    for (const auto& [name, factors] : adapter->export_delta()) {
      const models::Linear& linear =
          name == model.linears()[0]->name ? *model.linears()[0] : *model.linears()[1];
      const at::Tensor merged = linear.weight + factors.product();
      const at::Tensor changed = merged.ne(linear.weight);
      const std::int64_t lines = std::string(method) == "sbora-fa"
                                     ? changed.any(0).sum().item<std::int64_t>()
                                     : changed.any(1).sum().item<std::int64_t>();
      CHECK(lines == 4);  // distinct, and no more than the rank
      CHECK(changed.sum().item<std::int64_t>() ==
            4 * (std::string(method) == "sbora-fa" ? linear.out_features() : linear.in_features()));
    }
  }
}

TEST_CASE("sbora: indices are shared by the clients of a round, nested over ranks, and redrawn") {
  const auto picked = [](std::int64_t rank, std::uint64_t round, const std::string& client) {
    test::ToyModel model;
    const AdapterStart start{.seed = 1, .round = round, .client = client};
    const auto adapter = make_adapter(model, {.method = "sbora-fa", .rank = rank}, start);
    return adapter->export_delta().begin()->second.a;
  };
  CHECK(at::equal(picked(8, 1, "a"), picked(8, 1, "b")));
  CHECK(at::equal(picked(8, 1, "a").narrow(0, 0, 3), picked(3, 1, "b")));
  CHECK_FALSE(at::equal(picked(8, 1, "a"), picked(8, 2, "a")));
}

TEST_CASE("sbora: five steps of the oracle") {
  test::check_five_steps("sbora-fa");
  test::check_five_steps("sbora-fb");
}

TEST_CASE("sbora: a rank above the number of inputs is refused") {
  test::ToyModel model;
  CHECK_THROWS_WITH_AS(make_adapter(model, {.method = "sbora-fa", .rank = 13}, {}),
                       doctest::Contains("attention.query"), core::ConfigError);
}

}  // namespace
}  // namespace drystone::adapters
