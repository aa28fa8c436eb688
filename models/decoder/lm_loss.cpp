#include "models/decoder/lm_loss.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/check.h"
#include "models/gemm.h"

namespace drystone::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// How many parts of at most `most` make up `total`, and their size: all but the last are equal.
std::int64_t equal_part(std::int64_t total, std::int64_t most) {
  const std::int64_t parts = std::max<std::int64_t>((total + most - 1) / most, 1);
  return (total + parts - 1) / parts;
}

/// Targets whose logits exist at once: a piece reads the whole head twice, so few of them would
/// wait for memory. 32 MB of logits, of a GPU's memory 256 MB.
std::int64_t rows_of_piece(std::int64_t count, std::int64_t vocab, at::Device device) {
  const std::int64_t elements = device.is_cpu() ? 1 << 23 : 1 << 26;
  return equal_part(count, std::max<std::int64_t>(elements / vocab, 16));
}

/// Tokens whose logits are one block: on a CPU they stay in its cache from one product to the next.
std::int64_t columns_of_block(std::int64_t vocab, at::Device device) {
  return device.is_cpu() ? equal_part(vocab, 1 << 10) : vocab;
}

/// Where the labels are in a block of the vocabulary.
struct Places {
  at::Tensor column;  ///< [rows, 1] int64; any column where the label is in another block
  at::Tensor inside;  ///< [rows, 1] bool

  Places(const at::Tensor& labels, std::int64_t first, std::int64_t size) {
    const at::Tensor shifted = labels.unsqueeze(1) - first;
    inside = shifted.ge(0).logical_and_(shifted.lt(size));
    column = shifted.clamp_(0, size - 1);
  }
};

/// Some of the vocabulary's tokens: logits, then their softmax within the block.
struct Block {
  std::int64_t first = 0;  ///< token
  at::Tensor values;       ///< [rows, tokens]
  at::Tensor log_sum;      ///< log Σ exp(logits), [rows, 1] float64
  at::Tensor slope;        ///< of the softcap, [rows, tokens]; undefined: there is none

  Block(std::int64_t first_token, at::Tensor logits, double softcap)
      : first(first_token), values(std::move(logits)) {
    if (softcap > 0.0) {
      slope = values.div_(softcap).tanh_().square().neg_().add_(1.0);
      values.mul_(softcap);
    }
  }
  at::Tensor target_logits(const at::Tensor& labels) const {
    const Places places(labels, first, values.size(1));
    return values.gather(1, places.column).mul_(places.inside).to(at::kDouble);
  }
  void normalise() {
    const at::Tensor maximum = values.amax({1}, /*keepdim=*/true);
    at::softmax_out(values, values, 1);
    const at::Tensor largest = values.amax({1}, /*keepdim=*/true);  // exp(maximum − log_sum)
    log_sum = maximum.to(at::kDouble).sub_(largest.to(at::kDouble).log_());
  }
  /// The gradient of the summed losses by the logits before the softcap, in the values' place.
  /// @param log_sum_of_all  of all blocks, [rows, 1] float64
  const at::Tensor& differentiate(const at::Tensor& log_sum_of_all, const at::Tensor& labels) {
    if (!log_sum.is_same(log_sum_of_all)) {
      values.mul_((log_sum - log_sum_of_all).exp_().to(values.scalar_type()));
    }
    const Places places(labels, first, values.size(1));
    values.scatter_add_(1, places.column, places.inside.to(values.scalar_type()).neg_());
    return slope.defined() ? values.mul_(slope) : values;
  }
};

/// One piece: its losses and, where it is wanted, the gradient of their sum.
/// @return  [rows, 1] float64
at::Tensor losses_of(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& labels,
                     double softcap, const at::Tensor& gradient) {
  const at::Tensor in = hidden.to(head.scalar_type());
  const std::int64_t columns = columns_of_block(head.size(0), head.device());
  const auto part_of_head = [&](std::int64_t first) {
    return head.narrow(0, first, std::min(columns, head.size(0) - first));
  };
  std::vector<Block> blocks;
  at::Tensor log_sum;  // [rows, 1] float64
  at::Tensor target;
  for (std::int64_t first = 0; first < head.size(0); first += columns) {
    Block block(first, at_least_float(linear_forward(in, part_of_head(first), {})), softcap);
    const at::Tensor here = block.target_logits(labels);
    target = target.defined() ? target.add_(here) : here;
    block.normalise();
    log_sum = log_sum.defined() ? at::logaddexp(log_sum, block.log_sum) : block.log_sum;
    if (gradient.defined()) blocks.push_back(std::move(block));
  }
  const at::Tensor losses = log_sum.sub(target);
  if (!gradient.defined()) return losses;
  at::Tensor by_hidden;
  for (Block& block : blocks) {
    const at::Tensor by_logits = block.differentiate(log_sum, labels).to(head.scalar_type());
    const at::Tensor part =
        at_least_float(linear_backward_input(by_logits, part_of_head(block.first)));
    by_hidden = by_hidden.defined() ? by_hidden.add_(part) : part;
    block.values.reset();
    block.slope.reset();
  }
  gradient.copy_(by_hidden);
  return losses;
}

/// Of one target in the mean over so many.
double share_of(std::int64_t count) {
  return 1.0 / static_cast<double>(std::max<std::int64_t>(count, 1));
}

struct LmHeadLoss : public torch::autograd::Function<LmHeadLoss> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden,
                            const at::Tensor& head, const at::Tensor& labels,
                            const std::vector<std::int64_t>& counts, double softcap,
                            bool wants_gradient) {
    at::Tensor gradient = wants_gradient ? at::empty_like(hidden) : at::Tensor();
    at::Tensor losses = at::empty({hidden.size(0), 1}, hidden.options().dtype(at::kDouble));
    const std::int64_t rows = rows_of_piece(hidden.size(0), head.size(0), head.device());
    for (std::int64_t first = 0; first < hidden.size(0); first += rows) {
      const std::int64_t size = std::min(rows, hidden.size(0) - first);
      losses.narrow(0, first, size)
          .copy_(losses_of(hidden.narrow(0, first, size), head, labels.narrow(0, first, size),
                           softcap, wants_gradient ? gradient.narrow(0, first, size) : gradient));
    }
    std::vector<at::Tensor> means;
    for (const at::Tensor& own : losses.split_with_sizes(counts)) {
      means.push_back(own.sum().mul_(share_of(own.size(0))));
    }
    if (wants_gradient) {
      for (const at::Tensor& own : gradient.split_with_sizes(counts))
        own.mul_(share_of(own.size(0)));
      context->save_for_backward({gradient});
      context->saved_data["counts"] = counts;
    }
    const bool is_double = hidden.scalar_type() == at::kDouble;
    return at::stack(means).to(is_double ? at::kDouble : at::kFloat);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor kept = context->get_saved_variables()[0];
    const at::Tensor slopes = gradients[0].to(kept.scalar_type());
    const std::vector<std::int64_t> counts = context->saved_data["counts"].toIntVector();
    std::vector<at::Tensor> parts = kept.split_with_sizes(counts);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      parts[i] = parts[i] * slopes[static_cast<std::int64_t>(i)];
    }
    return {parts.size() == 1 ? parts[0] : at::cat(parts), {}, {}, {}, {}, {}};
  }
};

}  // namespace

std::int64_t lm_loss_elements(std::int64_t targets, std::int64_t vocab, bool has_softcap,
                              at::Device device) {
  const std::int64_t rows = rows_of_piece(targets, vocab, device);
  return rows * (vocab * (has_softcap ? 2 : 1) + 2 * columns_of_block(vocab, device));
}

at::Tensor lm_head_losses(const at::Tensor& hidden, const at::Tensor& head,
                          const at::Tensor& labels, const std::vector<std::int64_t>& counts,
                          double softcap) {
  core::require(hidden.dim() == 2 && labels.dim() == 1 && hidden.size(0) == labels.size(0),
                "lm_head_loss: hidden must be [targets, hidden] and labels [targets]");
  core::require(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}) == hidden.size(0),
                "lm_head_loss: the means are not over all targets");
  core::require(!labels.is_cpu() || labels.numel() == 0 ||
                    (labels.min().item<std::int64_t>() >= 0 &&
                     labels.max().item<std::int64_t>() < head.size(0)),
                "lm_head_loss: a label is no token of the vocabulary");
  const bool wants_gradient = at::GradMode::is_enabled() && hidden.requires_grad();
  return LmHeadLoss::apply(hidden, head, labels, counts, softcap, wants_gradient);
}

at::Tensor lm_head_loss(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& labels,
                        double softcap) {
  return lm_head_losses(hidden, head, labels, {hidden.size(0)}, softcap).squeeze(0);
}

}  // namespace drystone::models
