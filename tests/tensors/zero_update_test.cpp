#include "tensors/zero_update.h"

#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <doctest/doctest.h>

#include "tests/temporary_folder.h"

using namespace drystone;
using tensors::Factors;

namespace {

Factors pair(std::int64_t rank, double scale) {
  return {.b = at::full({5, rank}, scale), .a = at::full({rank, 7}, 0.25)};
}

}  // namespace

TEST_CASE("zero update: factors that are zero, and those that cancel") {
  CHECK(tensors::is_zero(pair(3, 0.0)));
  CHECK(tensors::is_zero(pair(3, 1e-30)));
  CHECK_FALSE(tensors::is_zero(pair(3, 1e-9)));
  const Factors start = pair(2, 3.0);
  CHECK(tensors::is_zero(tensors::difference(start, start)));
  Factors moved = pair(2, 3.0);
  moved.b[4][1] += 1e-5;
  CHECK_FALSE(tensors::is_zero(tensors::difference(moved, start)));
  CHECK_FALSE(tensors::is_zero(tensors::difference(start, pair(1, 3.0))));
}

TEST_CASE("zero update: one module that moves is enough; without modules there is nothing to say") {
  tensors::FactorSet update{.modules = {{"m", pair(1, 0.0)}, {"n", pair(2, 0.0)}},
                            .dense = {{"classifier.weight", at::ones({2})}}};
  CHECK(tensors::moves_nothing(update));
  update.modules["n"] = pair(2, 0.5);
  CHECK_FALSE(tensors::moves_nothing(update));
  CHECK_FALSE(tensors::moves_nothing(tensors::FactorSet{.modules = {}, .dense = update.dense}));
}

TEST_CASE("zero update: a file says the same") {
  const test::TemporaryFolder folder;
  for (const double scale : {0.0, 0.5}) {
    const tensors::FactorSet update{.modules = {{"m", pair(1, 0.0)}, {"n", pair(2, scale)}},
                                    .dense = {}};
    tensors::write_factor_set(folder.path() / "update", update);
    CHECK(tensors::moves_nothing(tensors::FactorSetFile(folder.path() / "update")) ==
          (scale == 0.0));
  }
}
