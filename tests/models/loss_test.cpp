#include "models/loss.h"

#include <cmath>
#include <vector>

#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"

using namespace drystone;
using models::Task;
using models::task_loss;

TEST_CASE("task_loss: mean cross entropy") {
  const at::Tensor logits = at::tensor(std::vector<float>{0.0F, 1.0F, 2.0F, 0.0F}).view({2, 2});
  const at::Tensor labels = at::tensor(std::vector<std::int64_t>{1, 1});
  const double expected = (std::log1p(std::exp(-1.0)) + std::log1p(std::exp(2.0))) / 2;
  CHECK(task_loss(Task::Classification, logits, labels).item<double>() ==
        doctest::Approx(expected).epsilon(1e-6));
}

TEST_CASE("task_loss: mean squared error, also of one row and of labels in another precision") {
  const at::Tensor logits = at::tensor(std::vector<float>{1.0F, 3.0F}).view({2, 1});
  const at::Tensor labels = at::tensor(std::vector<double>{0.5, 5.0});
  CHECK(task_loss(Task::Regression, logits, labels).item<double>() == doctest::Approx(2.125));
  CHECK(task_loss(Task::Regression, logits.slice(0, 1), labels.slice(0, 1)).item<double>() ==
        doctest::Approx(4.0));
}

TEST_CASE("task_loss: refuses labels that do not belong to the logits") {
  const at::Tensor logits = at::zeros({2, 3});
  const at::Tensor labels = at::zeros({2}, at::kLong);
  CHECK_THROWS_AS(task_loss(Task::Classification, logits, {}), core::InvalidArgument);
  CHECK_THROWS_AS(task_loss(Task::Classification, logits, labels.slice(0, 1)),
                  core::InvalidArgument);
  CHECK_THROWS_AS(task_loss(Task::Regression, logits, labels), core::InvalidArgument);
}
