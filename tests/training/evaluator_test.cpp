#include "training/evaluator.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/adapters/toy_model.h"
#include "toy_examples.h"

namespace drystone::training {
namespace {

TEST_CASE("evaluate_model: the batch size does not matter, progress ends at the total") {
  test::ToyModel model;
  const Examples examples = test::toy_examples(/*seed=*/1, /*count=*/23);
  std::int64_t done = 0;
  const EvaluateHooks hooks{.on_progress =
                                [&](std::int64_t now, std::int64_t total) {
                                  CHECK(now > done);
                                  CHECK(total == 23);
                                  done = now;
                                },
                            .stop = {}};
  const auto whole = evaluate_model(model, examples, 23);
  const auto parts = evaluate_model(model, examples, 4, hooks);
  REQUIRE(whole.has_value());
  REQUIRE(parts.has_value());
  CHECK(done == 23);
  CHECK(parts->num_examples == 23);
  for (const auto& [name, value] : whole->metrics) {
    CHECK(parts->metrics.at(name) == doctest::Approx(value).epsilon(1e-5));
  }
}

TEST_CASE("evaluate_model: stops, and refuses nothing to do") {
  test::ToyModel model;
  std::stop_source source;
  source.request_stop();
  const Examples examples = test::toy_examples(1, 5);
  CHECK_FALSE(evaluate_model(model, examples, 2, {.on_progress = {}, .stop = source.get_token()}));
  CHECK_THROWS_AS(evaluate_model(model, {}, 2), core::InvalidArgument);
}

}  // namespace
}  // namespace drystone::training
