// An adapter cut to a rank or a tolerance, against the singular values of its dense product.

#include "cli/cut_adapter.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_svdvals.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "tensors/random.h"

using namespace drystone;

namespace {

tensors::Factors random_factors(const std::string& name, std::int64_t rank) {
  return {.b = tensors::random_normal({.seed = 1, .purpose = name + "b"}, {20, rank}),
          .a = tensors::random_normal({.seed = 1, .purpose = name + "a"}, {rank, 30})};
}

at::Tensor dense(const tensors::Factors& factors) {
  return at::mm(factors.b.to(at::kDouble), factors.a.to(at::kDouble));
}

double norm(const at::Tensor& tensor) { return tensor.norm().item<double>(); }

/// ‖all singular values from `rank` on‖.
double tail(const tensors::Factors& factors, std::int64_t rank) {
  const at::Tensor values = at::linalg_svdvals(dense(factors));
  return norm(values.narrow(0, rank, values.size(0) - rank));
}

}  // namespace

TEST_CASE("cut adapter: to a rank, with the best error there is, which is told") {
  const tensors::FactorSet before = {
      .modules = {{"one", random_factors("one", 6)}, {"two", random_factors("two", 2)}},
      .dense = {{"head", at::zeros({3})}}};
  tensors::FactorSet after = before;
  const cli::CutReport report = cli::cut_adapter(after, {.rank = 3});
  const tensors::Factors& one = before.modules.at("one");
  const double gone = tail(one, 3);
  CHECK(after.modules.at("one").rank() == 3);
  CHECK(after.modules.at("two").rank() == 2);
  CHECK(after.dense.contains("head"));
  CHECK(norm(dense(after.modules.at("one")) - dense(one)) == doctest::Approx(gone).epsilon(1e-5));
  CHECK(report.rank_before == 6);
  CHECK(report.rank_after == 3);
  CHECK(report.worst_module == "one");
  CHECK(report.worst_error == doctest::Approx(gone / norm(dense(one))));
  const double whole = std::hypot(norm(dense(one)), norm(dense(before.modules.at("two"))));
  CHECK(report.relative_error == doctest::Approx(gone / whole));
  CHECK(report.text().starts_with("rank 6 cut to 3: relative error 0."));
}

TEST_CASE("cut adapter: to a tolerance, with the smallest rank that keeps it") {
  const tensors::Factors own = random_factors("one", 12);
  for (const double tolerance : {0.05, 0.3, 0.9}) {
    CAPTURE(tolerance);
    tensors::FactorSet adapter{.modules = {{"one", own}}, .dense = {}};
    const cli::CutReport report = cli::cut_adapter(adapter, {.tolerance = tolerance});
    const std::int64_t rank = adapter.modules.at("one").rank();
    CHECK(report.relative_error <= tolerance);
    CHECK(tail(own, rank) <= tolerance * norm(dense(own)));
    if (rank > 1) CHECK(tail(own, rank - 1) > tolerance * norm(dense(own)));
  }
}

TEST_CASE("cut adapter: a rank that is not reached costs nothing, nor does an adapter of zeros") {
  tensors::FactorSet adapter{.modules = {{"one", random_factors("one", 2)}}, .dense = {}};
  CHECK(cli::cut_adapter(adapter, {.rank = 8}).relative_error < 1e-6);
  CHECK(adapter.modules.at("one").rank() == 2);
  adapter.modules["one"] = {.b = at::zeros({20, 4}), .a = at::zeros({4, 30})};
  CHECK(cli::cut_adapter(adapter, {.rank = 1}).relative_error == 0.0);
  CHECK(adapter.modules.at("one").rank() == 1);
}
