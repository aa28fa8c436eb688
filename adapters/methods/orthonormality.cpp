#include "adapters/methods/orthonormality.h"

#include <cstdint>
#include <map>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/check.h"

namespace drystone::adapters {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::int64_t kBatched = 1 << 15;  // elements; above, one product pays for itself

/// Places in the list of matrices, of one shape where there are several.
using Group = std::vector<std::int64_t>;

std::vector<Group> group(at::TensorList matrices) {
  std::vector<Group> groups;
  std::map<std::pair<std::int64_t, std::int64_t>, std::size_t> places;
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    const at::Tensor& matrix = matrices[i];
    std::size_t place = groups.size();
    if (matrix.numel() <= kBatched) {
      place = places.try_emplace({matrix.size(0), matrix.size(1)}, place).first->second;
    }
    if (place == groups.size()) groups.emplace_back();
    groups[place].push_back(static_cast<std::int64_t>(i));
  }
  return groups;
}

at::Tensor batch(at::TensorList matrices, const Group& places) {
  if (places.size() == 1) return matrices[static_cast<std::size_t>(places[0])].unsqueeze(0);
  std::vector<at::Tensor> parts;
  for (const std::int64_t place : places) {
    parts.push_back(matrices[static_cast<std::size_t>(place)]);
  }
  return at::stack(parts);
}

/// d [k] of each, and the matrices whose product with R is d's gradient [k, r, r].
std::pair<at::Tensor, at::Tensor> distances(at::Tensor gram, std::int64_t n, GramDistance kind) {
  gram.diagonal(0, 1, 2).sub_(1.0);
  at::Tensor value = gram.square().sum({1, 2});
  if (kind == GramDistance::Squared) return {value, gram.mul_(4.0)};
  if (kind == GramDistance::Large) value.add_(static_cast<double>(n - gram.size(1)));
  value.sqrt_();
  const at::Tensor factor = at::where(value > 0, 2.0 / value, at::zeros_like(value));
  return {value, gram.mul_(factor.view({-1, 1, 1}))};
}

struct OffOrthonormality : public torch::autograd::Function<OffOrthonormality> {
  static at::Tensor forward(AutogradContext* context, at::TensorList as, at::TensorList bs,
                            GramDistance kind) {
    at::Tensor sum = at::zeros({}, (as.empty() ? bs : as).front().options());
    variable_list saved;
    std::vector<std::int64_t> order;
    const auto add = [&](at::TensorList matrices, std::int64_t first, bool transposed) {
      for (const Group& places : group(matrices)) {
        const at::Tensor r = batch(matrices, places);
        const at::Tensor gram = transposed ? at::matmul(r.mT(), r) : at::matmul(r, r.mT());
        const auto [values, slope] = distances(gram, r.size(transposed ? 1 : 2), kind);
        sum.add_(values.sum());
        saved.push_back(r);
        saved.push_back(slope);
        for (const std::int64_t place : places) order.push_back(first + place);
      }
    };
    add(as, 0, false);
    add(bs, static_cast<std::int64_t>(as.size()), true);
    context->save_for_backward(std::move(saved));
    context->saved_data["order"] = std::move(order);
    context->saved_data["num_a"] = static_cast<std::int64_t>(as.size());
    return sum;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const std::vector<std::int64_t> order = context->saved_data["order"].toIntVector();
    const std::int64_t num_a = context->saved_data["num_a"].toInt();
    variable_list result(order.size() + 1);  // the last: the kind of distance
    std::size_t next = 0;
    for (std::size_t i = 0; i < saved.size(); i += 2) {
      const at::Tensor slope = saved[i + 1] * gradients[0];
      const at::Tensor by_r =
          order[next] < num_a ? at::matmul(slope, saved[i]) : at::matmul(saved[i], slope);
      for (const at::Tensor& one : by_r.unbind()) {
        result[static_cast<std::size_t>(order[next++])] = one;
      }
    }
    return result;
  }
};

}  // namespace

at::Tensor off_orthonormality(const std::vector<at::Tensor>& as, const std::vector<at::Tensor>& bs,
                              GramDistance distance) {
  core::require(!as.empty() || !bs.empty(), "off_orthonormality: no factors");
  return OffOrthonormality::apply(at::TensorList(as), at::TensorList(bs), distance);
}

}  // namespace drystone::adapters
