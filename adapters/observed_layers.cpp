#include "adapters/observed_layers.h"

#include <algorithm>
#include <set>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

#include "adapters/side_path.h"
#include "core/check.h"
#include "core/error.h"

namespace drystone::adapters {

namespace {

at::Tensor flat(const at::Tensor& tensor) { return tensor.reshape({-1, tensor.size(-1)}); }

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

at::Tensor ObservedLayer::forward(const models::Linear& base, const at::Tensor& x) {
  const at::Tensor in = x.to(a_.scalar_type());
  at::Tensor side;
  if (fixed_.a.defined()) side = at::linear(at::linear(in, fixed_.a), fixed_.b);
  if (is_observed()) {
    input_ = flat(in.detach());
    hidden_ = at::linear(in, a_);
    output_ = at::linear(hidden_, b_);
    ++calls_;
    add_term(side, output_);
  }
  const at::Tensor y = base.plain(x);
  return side.defined() ? y + side.to(y.scalar_type()) : y;
}

const at::Tensor& ObservedLayer::input() const {
  if (calls_ == 1) return input_;
  throw core::ConfigError("training.target_modules: the model goes through " + module_ + " " +
                          (calls_ == 0 ? std::string("never") : "several times") +
                          " in one pass, which a Laplace posterior does not cover; leave it out");
}

at::Tensor ObservedLayer::flat_hidden() const { return flat(hidden_.detach()); }

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
  if (positions == static_cast<std::int64_t>(by_token.size())) {
    return {.kept = {}, .rows = std::move(by_token)};
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
    attach(*linear, layer);
    if (rank > 0) observed_.push_back(&layer);
  }
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
    inputs.push_back(layer->hidden());
    inputs.push_back(layer->output());
  }
  const auto found = torch::autograd::grad({logits}, inputs, {weights.to(logits.options())},
                                           /*retain_graph=*/!last, /*create_graph=*/false,
                                           /*allow_unused=*/true);
  Gradients result;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const at::Tensor gradient = found[i].defined() ? found[i] : at::zeros_like(inputs[i]);
    (i % 2 == 0 ? result.hidden : result.output).push_back(flat(gradient));
  }
  return result;
}

}  // namespace drystone::adapters
