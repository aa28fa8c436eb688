#include "adapters/posterior/observed_layers.h"

#include <algorithm>
#include <set>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

#include "adapters/side_path.h"
#include "core/check.h"
#include "core/error.h"
#include "models/loss.h"

namespace drystone::adapters {

namespace {

at::Tensor flat(const at::Tensor& tensor) { return tensor.reshape({-1, tensor.size(-1)}); }

at::Tensor stacked(const std::vector<at::Tensor>& parts) {
  return parts.size() == 1 ? parts.front() : at::cat(parts);
}

/// Tokens of each row.
std::vector<std::int64_t> lengths_of(const models::Batch& batch) {
  const auto rows = static_cast<std::size_t>(batch.input_ids.size(0));
  std::vector<std::int64_t> lengths(rows, batch.input_ids.size(1));
  if (!batch.pad_mask.defined()) return lengths;
  const at::Tensor counts = batch.pad_mask.sum(1).to(at::kCPU, at::kLong).contiguous();
  std::copy_n(counts.const_data_ptr<std::int64_t>(), rows, lengths.begin());
  return lengths;
}

/// Row numbers, each as often as its row has tokens.
std::vector<std::int64_t> rows_by_token(const std::vector<std::int64_t>& lengths) {
  std::vector<std::int64_t> rows;
  for (std::size_t row = 0; row < lengths.size(); ++row) {
    rows.insert(rows.end(), static_cast<std::size_t>(lengths[row]), static_cast<std::int64_t>(row));
  }
  return rows;
}

/// Row of each position that predicts a token; empty: not a language model's batch.
std::vector<std::int64_t> rows_by_target(const models::Batch& batch) {
  std::vector<std::int64_t> rows;
  if (!batch.labels.defined() || batch.labels.dim() != 2) return rows;
  const at::Tensor positions = models::find_targets(batch).positions.contiguous();
  for (std::int64_t i = 0; i < positions.size(0); ++i) {
    rows.push_back(positions.const_data_ptr<std::int64_t>()[i] / batch.input_ids.size(1));
  }
  return rows;
}

/// Some rows of a batch, cut to `width` tokens.
models::Batch cut(const models::Batch& batch, const at::Tensor& rows, std::int64_t width) {
  const auto of = [&](const at::Tensor& tensor) {
    if (!tensor.defined()) return tensor;
    const at::Tensor chosen = tensor.index_select(0, rows.to(tensor.device()));
    return chosen.dim() == 2 ? chosen.narrow(1, 0, width) : chosen;
  };
  models::Batch part;
  part.input_ids = of(batch.input_ids);
  part.pad_mask = of(batch.pad_mask);
  part.type_ids = of(batch.type_ids);
  part.labels = of(batch.labels);
  part.segments = of(batch.segments);
  return part;
}

}  // namespace

ObservedLayer::ObservedLayer(const models::Linear& linear, const tensors::Factors& factors,
                             std::int64_t rank)
    : module_(linear.name) {
  core::require(factors.out_features() == linear.out_features() &&
                    factors.in_features() == linear.in_features(),
                "observe: factors of another shape for " + linear.name);
  const at::NoGradGuard no_grad;
  const std::int64_t kept = std::min(rank, factors.rank());
  const std::int64_t missing = rank - kept;
  a_ = make_leaf(at::cat({factors.a.narrow(0, 0, kept),
                          at::zeros({missing, linear.in_features()}, at::kFloat)}),
                 linear);
  b_ = make_leaf(at::cat({factors.b.narrow(1, 0, kept),
                          at::zeros({linear.out_features(), missing}, at::kFloat)},
                         /*dim=*/1),
                 linear);
  const std::int64_t others = factors.rank() - kept;
  if (others > 0) {
    fixed_ = {.b = placed(factors.b.narrow(1, kept, others), linear),
              .a = placed(factors.a.narrow(0, kept, others), linear)};
  }
}

at::Tensor ObservedLayer::forward(const models::Linear& base, const models::LayerInput& input) {
  const at::Tensor& x = input.value;
  const at::Tensor in = x.to(a_.scalar_type());
  at::Tensor side;
  if (fixed_.a.defined()) side = at::linear(at::linear(in, fixed_.a), fixed_.b);
  if (is_observed()) {
    const at::Tensor hidden = at::linear(in, a_);
    const at::Tensor output = at::linear(hidden, b_);
    if (at::GradMode::is_enabled()) uses_.push_back({flat(in.detach()), hidden, output});
    add_term(side, output);
  }
  const at::Tensor y = base.plain(x);
  return side.defined() ? y + side.to(y.scalar_type()) : y;
}

void ObservedLayer::set(at::Tensor a, at::Tensor b) {
  core::require(a.sizes() == a_.sizes() && b.sizes() == b_.sizes(),
                "observe: factors of another shape for " + module_);
  a_ = std::move(a);
  b_ = std::move(b);
}

at::Tensor ObservedLayer::input() const {
  if (uses_.empty()) {
    throw core::ConfigError("training.target_modules: the model never goes through " + module_ +
                            "; leave it out");
  }
  std::vector<at::Tensor> parts;
  for (const Use& use : uses_) parts.push_back(use.input);
  return stacked(parts);
}

at::Tensor ObservedLayer::flat_hidden() const {
  std::vector<at::Tensor> parts;
  for (const Use& use : uses_) parts.push_back(flat(use.hidden.detach()));
  return stacked(parts);
}

at::Tensor Head::augmented(const at::Tensor& features) const {
  if (bias == nullptr) return features;
  return at::cat({features, at::ones({features.size(0), 1}, features.options())}, 1);
}

at::Tensor Head::parameters() const {
  if (bias == nullptr) return weight->detach();
  return at::cat({weight->detach(), bias->detach().unsqueeze(1)}, 1);
}

at::Tensor Places::of(const at::Tensor& flat) const {
  return kept.defined() ? flat.index_select(0, kept.to(flat.device())) : flat;
}

std::optional<Head> find_head(models::Model& model) {
  std::map<std::string, at::Tensor*> parts = model.dense();
  Head head{.name = {}, .weight = nullptr, .bias = nullptr};
  for (const auto& [name, tensor] : parts) {
    const bool is_last = head.weight == nullptr || name.ends_with("out_proj.weight");
    if (tensor->dim() != 2 || !is_last) continue;
    head.name = name;
    head.weight = tensor;
  }
  if (head.weight == nullptr) return std::nullopt;
  const std::string layer = head.name.substr(0, head.name.rfind('.'));
  const auto bias = parts.find(layer + ".bias");
  if (bias != parts.end()) head.bias = bias->second;
  return head;
}

Places places_of(const at::Tensor& activation, const models::Batch& batch) {
  const std::vector<std::int64_t> lengths = lengths_of(batch);
  const std::int64_t width = batch.input_ids.size(1);
  const auto rows = static_cast<std::int64_t>(lengths.size());
  std::vector<std::int64_t> by_token = rows_by_token(lengths);
  const std::int64_t positions = activation.numel() / activation.size(-1);
  if (rows == 1 && lengths.front() == width) {
    return {.kept = {}, .rows = std::vector<std::int64_t>(static_cast<std::size_t>(positions), 0)};
  }
  if (positions == static_cast<std::int64_t>(by_token.size())) {
    return {.kept = {}, .rows = std::move(by_token)};
  }
  if (std::vector<std::int64_t> by_target = rows_by_target(batch);
      positions == static_cast<std::int64_t>(by_target.size())) {  // behind a decoder's attention
    return {.kept = {}, .rows = std::move(by_target)};
  }
  if (positions == rows) {
    return {.kept = {}, .rows = rows_by_token(std::vector<std::int64_t>(lengths.size(), 1))};
  }
  core::require(positions == rows * width, "observe: activations that are not the batch's tokens");
  return {.kept = at::nonzero(batch.pad_mask.reshape({-1})).squeeze(1),
          .rows = std::move(by_token)};
}

ObservedModel::ObservedModel(models::Model& model, const AdapterSpec& spec,
                             const AdapterStart& start)
    : model_(model), head_(find_head(model)) {
  if (start.factors == nullptr || start.factors->empty()) {
    throw core::ConfigError(
        "model.adapter: a Laplace posterior needs trained factors; set it to the folder global/ of "
        "a finished run");
  }
  std::set<std::string> wanted;
  for (const models::Linear* linear : match_linears(model, spec.target_modules)) {
    wanted.insert(linear->name);
    if (start.factors->contains(linear->name)) continue;
    throw core::ConfigError("training.target_modules: model.adapter has no factors for " +
                            linear->name + "; name only modules that it adapts");
  }
  for (models::Linear* linear : model.linears()) {
    const auto factors = start.factors->find(linear->name);
    if (factors == start.factors->end()) continue;
    const std::int64_t rank = wanted.contains(linear->name) ? spec.rank : 0;
    ObservedLayer& layer = layers_.emplace_back(*linear, factors->second, rank);
    slots_.add(*linear, layer);
    if (rank > 0) observed_.push_back(&layer);
  }
  slots_.take();
}

// The head opened: with the identity in the last layer's place the model gives that layer's input.
at::Tensor ObservedModel::features(const models::Batch& batch) {
  const at::Tensor weight = *head_->weight;
  const at::Tensor bias = head_->bias != nullptr ? *head_->bias : at::Tensor();
  const auto restore = [&] {
    *head_->weight = weight;
    if (head_->bias != nullptr) *head_->bias = bias;
  };
  try {
    *head_->weight = at::eye(weight.size(1), weight.detach().options());
    if (head_->bias != nullptr) {
      *head_->bias = at::zeros({weight.size(1)}, bias.detach().options());
    }
    at::Tensor features = model_.logits(batch);
    restore();
    return features;
  } catch (...) {
    restore();
    throw;
  }
}

// A row twice has twice the positions, unless its rows share them.
bool ObservedModel::shares_uses(const models::Batch& batch) {
  const std::int64_t width = lengths_of(batch).front();
  forward(cut(batch, at::zeros({1}, at::kLong), width));
  std::vector<std::int64_t> once;
  for (const ObservedLayer* layer : observed_) {
    if (layer->uses().size() > 1) return true;
    once.push_back(layer->input().size(0));
  }
  forward(cut(batch, at::zeros({2}, at::kLong), width));
  for (std::size_t i = 0; i < once.size(); ++i) {
    if (observed_[i]->input().size(0) != 2 * once[i]) return true;
  }
  return false;
}

std::vector<models::Batch> ObservedModel::parts_of(const models::Batch& batch) {
  if (!shares_uses_) shares_uses_ = shares_uses(batch);
  if (!*shares_uses_) return {batch};
  std::vector<models::Batch> parts;
  for (const std::int64_t width : lengths_of(batch)) {
    const auto row = static_cast<std::int64_t>(parts.size());
    parts.push_back(cut(batch, at::full({1}, row, at::kLong), width));
  }
  return parts;
}

ObservedModel::Pass ObservedModel::forward(const models::Batch& batch) {
  const at::AutoGradMode with_gradients(true);
  for (ObservedLayer& layer : layers_) layer.start_pass();
  const auto widened = [](const at::Tensor& tensor) {
    return tensor.scalar_type() == at::kDouble ? tensor : tensor.to(at::kFloat);
  };
  if (!head_) return {.logits = widened(model_.logits(batch)), .features = {}};
  const at::Tensor h = widened(features(batch));
  const at::Tensor weight = head_->weight->detach().to(h.scalar_type());
  const at::Tensor bias =
      head_->bias != nullptr ? head_->bias->detach().to(h.scalar_type()) : at::Tensor();
  return {.logits = at::linear(h, weight, bias), .features = h.detach()};
}

ObservedModel::Gradients ObservedModel::gradients(const at::Tensor& logits,
                                                  const at::Tensor& weights, bool last) const {
  std::vector<at::Tensor> inputs;
  for (const ObservedLayer* layer : observed_) {
    for (const ObservedLayer::Use& use : layer->uses()) {
      inputs.push_back(use.hidden);
      inputs.push_back(use.output);
    }
  }
  const auto found = torch::autograd::grad({logits}, inputs, {weights.to(logits.options())},
                                           /*retain_graph=*/!last, /*create_graph=*/false,
                                           /*allow_unused=*/true);
  const auto gradient = [&](std::size_t i) {
    return flat(found[i].defined() ? found[i] : at::zeros_like(inputs[i]));
  };
  Gradients result;
  std::size_t next = 0;
  for (const ObservedLayer* layer : observed_) {
    std::vector<at::Tensor> hidden;
    std::vector<at::Tensor> output;
    for (std::size_t use = 0; use < layer->uses().size(); ++use, next += 2) {
      hidden.push_back(gradient(next));
      output.push_back(gradient(next + 1));
    }
    result.hidden.push_back(stacked(hidden));
    result.output.push_back(stacked(output));
  }
  return result;
}

}  // namespace drystone::adapters
