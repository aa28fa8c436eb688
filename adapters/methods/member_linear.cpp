#include "adapters/methods/member_linear.h"

#include <algorithm>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/zeros.h>

#include "core/check.h"
#include "models/dropout.h"

namespace drystone::adapters {

namespace {

at::ScalarType compute_dtype(const models::Linear& linear) {
  return linear.quantized ? at::kFloat : linear.weight.scalar_type();
}

}  // namespace

MemberLinear::MemberLinear(const models::Linear& linear,
                           std::span<const tensors::Factors* const> members, double dropout,
                           const core::StreamKey& key)
    : dropout_(dropout), masks_(key) {
  std::int64_t rank = 0;
  for (const tensors::Factors* member : members) {
    if (member == nullptr) continue;
    core::require(member->in_features() == linear.in_features() &&
                      member->out_features() == linear.out_features(),
                  "MemberLinear: factors of another shape for " + linear.name);
    rank = std::max(rank, member->rank());
  }
  const at::NoGradGuard no_grad;
  const auto count = static_cast<std::int64_t>(members.size());
  const at::Tensor a = at::zeros({count, linear.in_features(), rank}, at::kFloat);
  const at::Tensor b = at::zeros({count, rank, linear.out_features()}, at::kFloat);
  for (std::int64_t m = 0; m < count; ++m) {
    const tensors::Factors* member = members[static_cast<std::size_t>(m)];
    if (member == nullptr) continue;
    a.select(0, m).narrow(1, 0, member->rank()).copy_(member->a.t());
    b.select(0, m).narrow(0, 0, member->rank()).copy_(member->b.t());
  }
  a_ = a.to(linear.device(), compute_dtype(linear));
  b_ = b.to(linear.device(), compute_dtype(linear));
}

at::Tensor MemberLinear::forward(const models::Linear& base, const models::LayerInput& input) {
  const at::NoGradGuard no_grad;
  const at::Tensor& x = input.value;
  const std::int64_t members = a_.size(0);
  const std::int64_t rows = x.numel() / x.size(-1);
  core::require(rows % members == 0, "MemberLinear: the batch does not hold every row " +
                                         std::to_string(members) + " times");
  const at::Tensor dropped =
      models::apply_dropout(x, {.probability = dropout_, .seed = dropout_ > 0.0 ? masks_() : 0});
  const at::Tensor thin =
      at::bmm(dropped.reshape({members, -1, x.size(-1)}), a_.to(x.scalar_type()));
  const at::Tensor y = base.plain(x);
  return at::baddbmm(y.view({members, -1, y.size(-1)}), thin, b_.to(x.scalar_type()))
      .view(y.sizes());
}

MemberAdapters::MemberAdapters(models::Model& model, std::span<const FactorMap* const> members,
                               double dropout, std::uint64_t seed) {
  core::require(!members.empty(), "MemberAdapters: no members");
  for (models::Linear* linear : model.linears()) {
    std::vector<const tensors::Factors*> own;
    for (const FactorMap* member : members) {
      const auto found = member->find(linear->name);
      own.push_back(found == member->end() ? nullptr : &found->second);
    }
    if (std::all_of(own.begin(), own.end(), [](const auto* f) { return f == nullptr; })) continue;
    const std::string purpose = "mc-dropout/" + linear->name;
    layers_.emplace_back(*linear, own, dropout, core::StreamKey{.seed = seed, .purpose = purpose});
    slots_.add(*linear, layers_.back());
  }
}

}  // namespace drystone::adapters
