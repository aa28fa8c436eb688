#include "models/lm_loss.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/check.h"
#include "models/gemm.h"

namespace drystone::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Pieces of equal size whose logits take at most about 16 MB in float32. A piece reads the whole
/// head twice, so few rows would wait for memory.
std::int64_t rows_of_piece(std::int64_t count, std::int64_t vocab) {
  constexpr std::int64_t kElements = 1 << 22;
  const std::int64_t most = std::max<std::int64_t>(kElements / vocab, 16);
  const std::int64_t pieces = std::max<std::int64_t>((count + most - 1) / most, 1);
  return (count + pieces - 1) / pieces;
}

at::Tensor at_least_float(const at::Tensor& tensor) {
  return tensor.element_size() < 4 ? tensor.to(at::kFloat) : tensor;
}

/// Adds the losses of a piece to `sum` and, where it is wanted, puts their gradients by the logits
/// in the logits' place: on a CPU a few rows at a time, which stay in its cache meanwhile.
void add_losses(at::Tensor& logits, const at::Tensor& labels, at::Tensor& sum,
                bool wants_gradient) {
  constexpr std::int64_t kElements = 1 << 17;
  const std::int64_t rows =
      logits.is_cpu() ? std::max<std::int64_t>(kElements / logits.size(1), 1) : logits.size(0);
  for (std::int64_t first = 0; first < logits.size(0); first += rows) {
    const std::int64_t size = std::min(rows, logits.size(0) - first);
    at::Tensor here = logits.narrow(0, first, size);
    const at::Tensor places = labels.narrow(0, first, size).unsqueeze(1);
    const at::Tensor log_p = at::log_softmax(here, 1);
    sum.sub_(log_p.gather(1, places).sum(at::kDouble));
    if (!wants_gradient) continue;
    at::exp_out(here, log_p);
    here.scatter_add_(1, places, at::full(places.sizes(), -1.0, here.options()));
  }
}

/// One piece: adds its losses to `sum` and, where it is wanted, writes the gradient of that sum.
void add_piece(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& labels,
               double softcap, at::Tensor& sum, at::Tensor gradient) {
  at::Tensor logits = at_least_float(linear_forward(hidden.to(head.scalar_type()), head, {}));
  at::Tensor squashed;
  if (softcap > 0.0) {
    squashed = (logits / softcap).tanh_();
    logits = squashed * softcap;
  }
  add_losses(logits, labels, sum, gradient.defined());
  if (!gradient.defined()) return;
  if (softcap > 0.0) logits.mul_(squashed.square_().neg_().add_(1.0));
  gradient.copy_(linear_backward_input(logits.to(head.scalar_type()), head));
}

struct LmHeadLoss : public torch::autograd::Function<LmHeadLoss> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden,
                            const at::Tensor& head, const at::Tensor& labels, double softcap,
                            bool wants_gradient) {
    const std::int64_t count = hidden.size(0);
    const double scale = 1.0 / static_cast<double>(std::max<std::int64_t>(count, 1));
    at::Tensor gradient = wants_gradient ? at::empty_like(hidden) : at::Tensor();
    at::Tensor sum = at::zeros({}, hidden.options().dtype(at::kDouble));
    const std::int64_t rows = rows_of_piece(count, head.size(0));
    for (std::int64_t first = 0; first < count; first += rows) {
      const std::int64_t size = std::min(rows, count - first);
      add_piece(hidden.narrow(0, first, size), head, labels.narrow(0, first, size), softcap, sum,
                wants_gradient ? gradient.narrow(0, first, size) : at::Tensor());
    }
    if (wants_gradient) context->save_for_backward({gradient.mul_(scale)});
    const bool is_double = hidden.scalar_type() == at::kDouble;
    return sum.mul_(scale).to(is_double ? at::kDouble : at::kFloat);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor by_hidden = context->get_saved_variables()[0];
    return {by_hidden * gradients[0].to(by_hidden.scalar_type()), {}, {}, {}, {}};
  }
};

}  // namespace

std::int64_t lm_loss_elements(std::int64_t targets, std::int64_t vocab, bool has_softcap) {
  constexpr std::int64_t kCopies = 2;  // the logits, and what rows or a smaller type need
  return rows_of_piece(targets, vocab) * vocab * (has_softcap ? kCopies + 2 : kCopies);
}

at::Tensor lm_head_loss(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& labels,
                        double softcap) {
  core::require(hidden.dim() == 2 && labels.dim() == 1 && hidden.size(0) == labels.size(0),
                "lm_head_loss: hidden must be [targets, hidden] and labels [targets]");
  const bool wants_gradient = at::GradMode::is_enabled() && hidden.requires_grad();
  return LmHeadLoss::apply(hidden, head, labels, softcap, wants_gradient);
}

}  // namespace drystone::models
