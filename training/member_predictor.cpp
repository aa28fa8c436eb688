#include "training/member_predictor.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/block_diag.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>

#include "core/check.h"
#include "models/encoder/deberta.h"

namespace drystone::training {

namespace {

using Dense = std::map<std::string, at::Tensor>;

/// The last layer of a classifier: its rows are the labels.
constexpr std::array<std::string_view, 3> kOut = {"classifier.weight", "classifier.out_proj.weight",
                                                  "score.weight"};

bool is_out(const std::string& name) {
  return std::find(kOut.begin(), kOut.end(), name) != kOut.end();
}

std::vector<at::Tensor> parts(const std::vector<Dense>& heads, const std::string& name) {
  std::vector<at::Tensor> all;
  for (const Dense& head : heads) all.push_back(head.at(name));
  return all;
}

/// One head that gives every member's labels, side by side, for every row: a layer of its own below
/// another one is stacked, the upper one block-diagonal. nullopt: a head of another form.
std::optional<Dense> joined(const std::vector<Dense>& heads) {
  std::int64_t layers = 0;
  for (const auto& [name, tensor] : heads.front()) layers += tensor.dim() == 2 ? 1 : 0;
  if (layers > 2) return std::nullopt;
  Dense head;
  for (const auto& [name, tensor] : heads.front()) {
    const bool on_top = layers == 2 && is_out(name);
    head[name] = on_top ? at::block_diag(parts(heads, name)) : at::cat(parts(heads, name), 0);
  }
  return head;
}

at::Tensor repeat_rows(const at::Tensor& tensor, std::int64_t times) {
  if (!tensor.defined()) return tensor;
  std::vector<std::int64_t> repeats(static_cast<std::size_t>(tensor.dim()), 1);
  repeats.front() = times;
  return tensor.repeat(repeats);
}

}  // namespace

models::Batch repeated(const models::Batch& batch, std::int64_t times) {
  return {.input_ids = repeat_rows(batch.input_ids, times),
          .pad_mask = repeat_rows(batch.pad_mask, times),
          .type_ids = repeat_rows(batch.type_ids, times),
          .labels = repeat_rows(batch.labels, times),
          .segments = repeat_rows(batch.segments, times)};
}

MemberPredictor::MemberPredictor(models::Model& model, std::vector<PredictedMember> members,
                                 const PredictorOptions& options)
    : model_(model), members_(std::move(members)) {
  core::require(!members_.empty(), "MemberPredictor: no members");
  for (const auto& [name, tensor] : model_.dense()) shared_[name] = *tensor;
  std::vector<const adapters::FactorMap*> factors;
  std::vector<Dense> heads;
  for (PredictedMember& member : members_) {
    for (auto& [name, tensor] : member.dense) {
      const auto own = shared_.find(name);
      core::require(own != shared_.end() && own->second.sizes() == tensor.sizes(),
                    "MemberPredictor: the model has no dense part " + name + " of this shape");
      tensor = tensor.to(own->second.device(), own->second.scalar_type());
    }
    member.dense.insert(shared_.begin(), shared_.end());
    factors.push_back(&member.modules);
    heads.push_back(member.dense);
  }
  const bool rows_alike = dynamic_cast<models::Deberta*>(&model_) == nullptr;
  auto head = joined(heads);
  if (options.batched && rows_alike && head) {
    joint_head_ = std::move(*head);
    joint_ =
        std::make_unique<adapters::MemberAdapters>(model_, factors, options.dropout, options.seed);
    return;
  }
  for (std::size_t m = 0; m < factors.size(); ++m) {
    single_.push_back(std::make_unique<adapters::MemberAdapters>(
        model_, std::span(factors).subspan(m, 1), options.dropout, options.seed + m));
  }
}

MemberPredictor::~MemberPredictor() { install(shared_); }

void MemberPredictor::install(const Dense& dense) {
  for (const auto& [name, tensor] : model_.dense()) *tensor = dense.at(name);
}

at::Tensor MemberPredictor::logits(const models::Batch& batch) {
  const at::NoGradGuard no_grad;
  if (joint_) return joint_logits(batch);
  std::vector<at::Tensor> all;
  for (std::size_t m = 0; m < members_.size(); ++m) {
    install(members_[m].dense);
    single_[m]->attach();
    all.push_back(model_.logits(batch));
    single_[m]->detach();
  }
  install(shared_);
  return at::stack(all);
}

at::Tensor MemberPredictor::joint_logits(const models::Batch& batch) {
  const std::int64_t members = num_members();
  install(joint_head_);
  joint_->attach();
  const at::Tensor logits = model_.logits(repeated(batch, members));
  joint_->detach();
  install(shared_);
  std::vector<std::int64_t> shape = logits.sizes().vec();
  shape.front() /= members;
  if (shared_.empty()) {  // no head of its own: [members · rows, …]
    shape.insert(shape.begin(), members);
    return logits.view(shape);
  }
  const at::Tensor all = logits.view({members, shape[0], members, shape[1] / members});
  return all.diagonal(0, 0, 2).permute({2, 0, 1}).contiguous();  // row block m, labels of member m
}

std::vector<PredictedMember> members_of(const GlobalState& state) {
  const at::NoGradGuard no_grad;
  std::vector<PredictedMember> members;
  for (const auto& [number, own] : state.members().all()) {
    PredictedMember member{.modules = own.modules, .dense = {}};
    for (const auto& [name, difference] : own.dense) {
      const at::Tensor& shared = state.dense().at(name);
      member.dense[name] = shared.to(at::kFloat).add(difference.to(shared.device()));
    }
    members.push_back(std::move(member));
  }
  return members;
}

}  // namespace drystone::training
