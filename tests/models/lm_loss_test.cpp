#include "models/decoder/lm_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tensors/random.h"

using namespace drystone;

namespace {

at::Tensor normal(at::IntArrayRef shape, const char* purpose) {
  return tensors::random_normal({.seed = 4, .purpose = purpose}, shape, 0.0, 1.0);
}

at::Tensor plain_loss(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& labels,
                      double softcap) {
  at::Tensor logits = at::linear(hidden, head);
  if (softcap > 0.0) logits = (logits / softcap).tanh() * softcap;
  return at::cross_entropy_loss(logits, labels);
}

}  // namespace

TEST_CASE("lm_head_loss: loss and gradient are those of the whole logits") {
  for (const std::int64_t vocab :
       {7, 131072}) {  // the second in pieces of 60 rows and blocks of 1024 tokens
    for (const double softcap : {0.0, 3.0}) {
      CAPTURE(vocab);
      CAPTURE(softcap);
      const at::Tensor head = normal({vocab, 64}, "head");
      const at::Tensor labels = at::arange(180, at::kLong).mul(1023).remainder(vocab);
      const at::Tensor hidden = normal({180, 64}, "hidden").set_requires_grad(true);
      const at::Tensor other = hidden.detach().to(at::kDouble).set_requires_grad(true);
      const at::Tensor loss = models::lm_head_loss(hidden, head, labels, softcap);
      const at::Tensor expected = plain_loss(other, head.to(at::kDouble), labels, softcap);
      CHECK(loss.item<double>() == doctest::Approx(expected.item<double>()).epsilon(1e-6));
      (loss * 3.0).backward();
      (expected * 3.0).backward();
      const at::Tensor error = (hidden.grad() - other.grad()).norm() / other.grad().norm();
      CHECK(error.item<double>() <= (vocab > 1000 ? 1e-5 : 1e-6));
    }
  }
}

TEST_CASE("lm_head_loss: finite differences in float64") {
  const at::Tensor head = normal({11, 5}, "head").to(at::kDouble);
  const at::Tensor labels = at::arange(3, at::kLong);
  const at::Tensor hidden = normal({3, 5}, "hidden").to(at::kDouble).set_requires_grad(true);
  models::lm_head_loss(hidden, head, labels, 2.0).backward();
  const at::NoGradGuard no_grad;
  for (std::int64_t i = 0; i < hidden.numel(); ++i) {
    constexpr double kStep = 1e-6;
    const auto loss_at = [&](double shift) {
      at::Tensor moved = hidden.detach().clone();
      moved.view(-1)[i] += shift;
      return models::lm_head_loss(moved, head, labels, 2.0).item<double>();
    };
    const double slope = (loss_at(kStep) - loss_at(-kStep)) / (2.0 * kStep);
    CHECK(hidden.grad().view(-1)[i].item<double>() == doctest::Approx(slope).epsilon(1e-6));
  }
}

TEST_CASE("lm_head_loss: no targets, and shapes that do not belong together") {
  const at::Tensor head = normal({11, 5}, "head");
  CHECK(models::lm_head_loss(at::empty({0, 5}), head, at::empty({0}, at::kLong)).item<double>() ==
        0.0);
  CHECK_THROWS_AS(models::lm_head_loss(at::empty({2, 5}), head, at::empty({3}, at::kLong)),
                  core::InvalidArgument);
  CHECK_THROWS_AS(models::lm_head_loss(at::empty({3, 5}), head, at::arange(9, 12, at::kLong)),
                  core::InvalidArgument);
}
