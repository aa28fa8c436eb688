#include "adapters/method.h"

#include <string>

#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "adapters/registry.h"
#include "adapters/specification.h"
#include "core/error.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

/// The message of the ConfigError that `run` throws; "" if it throws none.
template <typename Run>
std::string refusal_of(Run run) {
  try {
    run();
  } catch (const core::ConfigError& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("match_linears: PEFT's suffix rule") {
  test::ToyModel model;
  CHECK(match_linears(model, {"all-linear"}).size() == 2);
  CHECK(match_linears(model, {"query"}).front()->name == "encoder.layer.0.attention.query");
  CHECK(match_linears(model, {"output.dense", "query"}).size() == 2);
  CHECK(match_linears(model, {"encoder.layer.1.output.dense"}).size() == 1);
}

TEST_CASE("match_linears: a target without a match is refused with what exists") {
  test::ToyModel model;
  for (const char* target : {"value", "uery", "layer.0", ""}) {
    CAPTURE(target);
    const std::string message = refusal_of([&] { match_linears(model, {"query", target}); });
    CHECK(contains(message, "attention.query, output.dense"));
  }
  CHECK(contains(refusal_of([&] { match_linears(model, {}); }), "all-linear"));
}

TEST_CASE("registry: a method that does not work yet is refused with those that do") {
  const std::string message = refusal_of([] { find_method("dora"); });
  CHECK(contains(message, "\"dora\""));
  CHECK(contains(message, "lora, rslora"));
}

TEST_CASE("registry: bad numbers and options are refused") {
  CHECK(refusal_of([] { validate({}); }).empty());
  CHECK(contains(refusal_of([] { validate({.rank = 0}); }), "training.rank"));
  CHECK(contains(refusal_of([] { validate({.alpha = -1.0}); }), "training.alpha"));
  CHECK(contains(refusal_of([] { validate({.dropout = 1.0}); }), "training.dropout"));
  const std::string message = refusal_of([] { validate({.options = {{"beta", 1.0}}}); });
  CHECK(contains(message, "training.options.beta"));
}

TEST_CASE("registry: options get their defaults, widen integers, and name the nearest on a slip") {
  static core::Options seen;
  const Method method{
      .name = "toy",
      .summary = "",
      .options = {{"gamma", 0.5, "a number"}, {"mode", std::string("soft"), "text"}},
      .make = [](models::Model&, const AdapterSpec& spec, const AdapterStart&) {
        seen = spec.options;
        return std::unique_ptr<Adapter>();
      }};
  test::ToyModel model;
  make_adapter(method, model, {.options = {{"gamma", std::int64_t{2}}}}, {});
  CHECK(seen.at("gamma") == core::OptionValue(2.0));
  CHECK(seen.at("mode") == core::OptionValue(std::string("soft")));
  CHECK(contains(refusal_of([&] { make_adapter(method, model, {.options = {{"gama", 1.0}}}, {}); }),
                 "did you mean \"gamma\"?"));
  CHECK(contains(refusal_of([&] { make_adapter(method, model, {.options = {{"mode", 1.0}}}, {}); }),
                 "wrong type"));
}

TEST_CASE("adapter: a slot takes one adapter at a time and is free again afterwards") {
  test::ToyModel model;
  auto adapter = make_adapter(model, {.target_modules = {"query"}}, {});
  CHECK_THROWS_AS(make_adapter(model, {}, {}), core::InvalidArgument);
  CHECK(model.linears()[0]->adapter != nullptr);
  CHECK(model.linears()[1]->adapter == nullptr);
  adapter.reset();
  CHECK(model.linears()[0]->adapter == nullptr);
}

TEST_CASE("adapter: a detached one leaves its slots to others, and takes all of them or none") {
  test::ToyModel model;
  const auto linears = model.linears();
  auto whole = make_adapter(model, {}, {});
  models::LinearAdapter* const layer = linears[0]->adapter;
  whole->detach();
  CHECK(linears[0]->adapter == nullptr);
  auto second = make_adapter(model, {.target_modules = {"dense"}}, {});
  CHECK_THROWS_AS(whole->attach(), core::InvalidArgument);
  CHECK(linears[0]->adapter == nullptr);
  second->detach();
  whole->attach();
  CHECK(linears[0]->adapter == layer);
  second.reset();
  CHECK(linears[1]->adapter != nullptr);
}

TEST_CASE("adapter: its state goes out and in bit by bit; a foreign one is refused") {
  test::ToyModel model;
  const TensorMap state = make_adapter(model, {.rank = 3}, {.seed = 1})->state();
  const auto other = make_adapter(model, {.rank = 3}, {.seed = 2});
  CHECK_FALSE(at::equal(other->state().begin()->second, state.begin()->second));
  other->load_state(state);
  for (const auto& [name, tensor] : other->state()) CHECK(at::equal(tensor, state.at(name)));
  TensorMap foreign = state;
  foreign.begin()->second = at::zeros({1});
  CHECK_THROWS_AS(other->load_state(foreign), core::InvalidArgument);
}

}  // namespace
}  // namespace drystone::adapters
