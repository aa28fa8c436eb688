#include "adapters/posterior/linearisation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/floor_divide.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/one_hot.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "adapters/side_path.h"
#include "core/check.h"
#include "core/error.h"
#include "models/gemm.h"
#include "models/loss.h"

namespace drystone::adapters {

namespace {

constexpr std::string_view kHead = "head";

std::string a_name(const ObservedLayer& layer) { return layer.module() + ".lora_A"; }
std::string b_name(const ObservedLayer& layer) { return layer.module() + ".lora_B"; }

double squared(const at::Tensor& tensor) {
  return tensor.detach().to(at::kDouble).square().sum().item<double>();
}

/// A statistic as the eigenpairs of `scale` · its mean.
Spectrum spectrum_in(const Curvature& curvature, const std::string& name, std::int64_t dimension,
                     double scale) {
  const auto found = curvature.statistics.find(name);
  const SketchPlan& plan = curvature.plan;
  if (found == curvature.statistics.end() ||
      found->second.sizes() != at::IntArrayRef({dimension, plan.columns(dimension)})) {
    throw core::ConfigError("posterior: the statistic " + name +
                            " is missing or does not fit the model");
  }
  const at::Tensor sum = found->second.to(at::kDouble) * scale;
  return plan.is_dense(dimension) ? spectrum_of(sum)
                                  : spectrum_of_sketch(sum, plan.omega(name, dimension), plan.rank);
}

double scalar_in(const Curvature& curvature, const std::string& name) {
  const auto found = curvature.statistics.find(name);
  if (found == curvature.statistics.end() || found->second.numel() != 1) {
    throw core::ConfigError("posterior: the statistic " + name + " is missing");
  }
  return found->second.item<double>();
}

/// A row's positions side by side: [rows · widest, width] → J = Σ_t g_t x_tᵀ by one product a row.
class RowProducts {
 public:
  explicit RowProducts(const Places& places, std::int64_t rows) : rows_(rows) {
    std::vector<std::int64_t> used(static_cast<std::size_t>(rows), 0);
    std::vector<std::int64_t> order;
    for (const std::int64_t row : places.rows) {
      order.push_back(used[static_cast<std::size_t>(row)]++);
    }
    widest_ = *std::max_element(used.begin(), used.end());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] += places.rows[i] * widest_;
    index_ = at::tensor(order, at::kLong);
  }

  at::Tensor spread(const at::Tensor& tokens) const {
    const std::int64_t width = tokens.size(1);
    return at::zeros({rows_ * widest_, width}, tokens.options())
        .index_copy_(0, index_.to(tokens.device()), tokens)
        .view({rows_, widest_, width});
  }
  /// @param input  spread  @return [rows, out, in]
  at::Tensor product(const at::Tensor& gradient, const at::Tensor& input) const {
    return at::matmul(spread(gradient).transpose(1, 2), input);
  }

 private:
  std::int64_t rows_;
  std::int64_t widest_ = 0;
  at::Tensor index_;
};

/// ∂ f_c / ∂ [W, bias] of the last layer: [h; 1] in row c.
at::Tensor head_jacobian(const Head& head, const at::Tensor& features, std::int64_t classes) {
  const at::Tensor h = head.augmented(features);
  at::Tensor jacobian = at::zeros({h.size(0), classes, classes, h.size(1)}, h.options());
  for (std::int64_t c = 0; c < classes; ++c) jacobian.select(1, c).select(1, c).copy_(h);
  return jacobian;
}

std::vector<at::Tensor> covariances_of(const std::map<std::string, at::Tensor>& jacobians,
                                       std::span<const Linearisation::Query> queries) {
  std::vector<at::Tensor> all;
  for (const Linearisation::Query& query : queries) {
    at::Tensor sum;
    for (std::size_t i = 0; i < query.posterior->blocks().size(); ++i) {
      const at::Tensor& jacobian = jacobians.at(query.posterior->blocks()[i].name);
      add_term(sum, query.posterior->covariance(i, jacobian, query.precisions));
    }
    all.push_back(sum);
  }
  return all;
}

}  // namespace

KroneckerPosterior Linearisation::posterior(const Curvature& curvature, Uncertain which) const {
  const double count = curvature.num_examples;
  std::vector<KroneckerBlock> blocks;
  const auto add = [&](const std::string& name, const at::Tensor& mean, const std::string& input,
                       const std::string& gradient, double tokens) {
    // 𝒜 is the mean over tokens, 𝒮 the sum over them: their product grows with the data.
    blocks.push_back({.name = name,
                      .mean = mean.detach(),
                      .input = spectrum_in(curvature, input, mean.size(1), 1.0 / tokens),
                      .gradient = spectrum_in(curvature, gradient, mean.size(0), count)});
  };
  if (which != Uncertain::Head) {
    for (const ObservedLayer* layer : observed()) {
      const std::string& module = layer->module();
      const double tokens = scalar_in(curvature, module + ".tokens");
      add(a_name(*layer), layer->a(), module + ".input", module + ".hidden_gradient", tokens);
      add(b_name(*layer), layer->b(), module + ".hidden", module + ".output_gradient", tokens);
    }
  }
  if (which != Uncertain::Factors) {
    core::require(is_classifier(), "posterior: a language model has no head of its own");
    add(std::string(kHead), head()->parameters(), "head.input", "head.output_gradient", 1.0);
  }
  return {std::move(blocks), scalar_in(curvature, "log_likelihood") * count};
}

Linearisation::Jacobians Linearisation::jacobians(const models::Batch& batch, const Pass& pass,
                                                  std::span<const at::Tensor> weights) {
  const std::int64_t rows = batch.input_ids.size(0);
  const auto passes = static_cast<std::int64_t>(weights.size());
  std::vector<Places> places;
  std::vector<RowProducts> products;
  std::vector<at::Tensor> inputs;
  std::vector<at::Tensor> hiddens;
  for (const ObservedLayer* layer : observed()) {
    const Places& here = places.emplace_back(places_of(layer->input(), batch));
    const RowProducts& product = products.emplace_back(here, rows);
    inputs.push_back(product.spread(here.of(layer->input())));
    hiddens.push_back(product.spread(here.of(layer->flat_hidden())));
  }
  Jacobians all;
  const auto keep = [&](const std::string& name, std::int64_t c, const at::Tensor& jacobian) {
    at::Tensor& whole = all[name];
    if (!whole.defined()) {
      whole = at::zeros({rows, passes, jacobian.size(1), jacobian.size(2)}, jacobian.options());
    }
    whole.select(1, c).copy_(jacobian);
  };
  for (std::int64_t c = 0; c < passes; ++c) {
    const Gradients found =
        gradients(pass.logits, weights[static_cast<std::size_t>(c)], c + 1 == passes);
    for (std::size_t i = 0; i < observed().size(); ++i) {
      const at::Tensor of_hidden = places[i].of(found.hidden[i]);
      const at::Tensor of_output = places[i].of(found.output[i]);
      keep(a_name(*observed()[i]), c, products[i].product(of_hidden, inputs[i]));
      keep(b_name(*observed()[i]), c, products[i].product(of_output, hiddens[i]));
    }
  }
  return all;
}

Linearisation::Answer Linearisation::predict(const models::Batch& batch,
                                             std::span<const Query> queries) {
  core::require(is_classifier(), "Linearisation::predict: not a classifier");
  std::vector<at::Tensor> means;
  std::vector<std::vector<at::Tensor>> covariances(queries.size());
  for (const models::Batch& part : parts_of(batch)) {
    const Answer answer = predict_part(part, queries);
    means.push_back(answer.mean);
    for (std::size_t i = 0; i < queries.size(); ++i) {
      covariances[i].push_back(answer.covariances[i]);
    }
  }
  Answer all{.mean = at::cat(means), .covariances = {}};
  for (const auto& parts : covariances) all.covariances.push_back(at::cat(parts, /*dim=*/1));
  return all;
}

Linearisation::Answer Linearisation::predict_part(const models::Batch& batch,
                                                  std::span<const Query> queries) {
  const Pass pass = forward(batch);
  const at::NoGradGuard no_grad;
  const std::int64_t classes = pass.logits.size(1);
  std::vector<at::Tensor> weights;
  for (std::int64_t c = 0; c < classes; ++c) {
    weights.push_back(at::zeros(pass.logits.sizes(), pass.logits.options()));
    weights.back().select(1, c).fill_(1.0);
  }
  Jacobians all = jacobians(batch, pass, weights);
  all[std::string(kHead)] = head_jacobian(*head(), pass.features, classes);
  return {.mean = pass.logits.detach().to(at::kCPU, at::kDouble),
          .covariances = covariances_of(all, queries)};
}

Linearisation::Answer Linearisation::predict_choices(const models::Batch& batch,
                                                     std::span<const Query> queries) {
  core::require(!is_classifier(), "Linearisation::predict_choices: not a language model");
  const Pass pass = forward(batch);
  const at::NoGradGuard no_grad;
  const models::Targets targets = models::find_targets(batch);
  const at::Tensor labels = targets.labels.to(pass.logits.device());
  const at::Tensor log_p = at::log_softmax(pass.logits.detach(), -1);
  const at::Tensor weights = at::one_hot(labels, log_p.size(1)) - log_p.exp();
  const at::Tensor rows = at::floor_divide(targets.positions, batch.input_ids.size(1));
  const at::Tensor chosen =
      log_p.gather(1, labels.unsqueeze(1)).squeeze(1).to(at::kCPU, at::kDouble);
  Jacobians all = jacobians(batch, pass, {{weights}});
  for (auto& [name, jacobian] : all) jacobian = jacobian.transpose(0, 1);
  return {.mean = at::zeros({batch.input_ids.size(0)}, at::kDouble)
                      .index_add_(0, rows, chosen)
                      .unsqueeze(0),
          .covariances = covariances_of(all, queries)};
}

at::Tensor Linearisation::logits(const models::Batch& batch) {
  const at::NoGradGuard no_grad;
  const at::Tensor logits = model().logits(batch);
  return models::at_least_float(logits);
}

at::Tensor Linearisation::displaced(const models::Batch& batch, const Direction& direction,
                                    double length) {
  std::vector<Pair> factors;
  const auto restore = [&] {
    for (std::size_t i = 0; i < factors.size(); ++i) observed()[i]->set(factors[i].a, factors[i].b);
  };
  try {
    for (ObservedLayer* layer : observed()) {
      const auto moved = [&](const at::Tensor& values, const std::string& name) {
        return values.detach() + direction.at(name).to(values.options()) * length;
      };
      factors.push_back({.a = layer->a(), .b = layer->b()});
      layer->set(moved(layer->a(), a_name(*layer)), moved(layer->b(), b_name(*layer)));
    }
    at::Tensor there = model().logits(batch);
    restore();
    if (there.element_size() >= 4) return there;
    throw core::ConfigError(
        "posterior: a language model's derivatives drown in the rounding of 16 bits; set --dtype "
        "float32");
  } catch (...) {
    restore();
    throw;
  }
}

at::Tensor Linearisation::slope(const models::Batch& batch, const Direction& direction) {
  const at::NoGradGuard no_grad;
  double squared_norm = 0.0;
  double squared_length = 0.0;
  double epsilon = std::numeric_limits<double>::epsilon();
  for (const ObservedLayer* layer : observed()) {
    squared_norm += squared(layer->a()) + squared(layer->b());
    squared_length += squared(direction.at(a_name(*layer))) + squared(direction.at(b_name(*layer)));
    if (layer->a().scalar_type() != at::kDouble) epsilon = std::numeric_limits<float>::epsilon();
  }
  const double step = std::cbrt(epsilon) * std::sqrt(squared_norm / squared_length);
  core::require(std::isfinite(step), "Linearisation::slope: a direction without a length");
  const at::Tensor up = displaced(batch, direction, step);
  return (up - displaced(batch, direction, -step)) / (2.0 * step);
}

Direction draw_direction(const KroneckerPosterior& posterior, double precision,
                         const core::StreamKey& key) {
  Direction direction;
  for (std::size_t i = 0; i < posterior.blocks().size(); ++i) {
    const std::string& name = posterior.blocks()[i].name;
    const std::string purpose = std::string(key.purpose) + "/" + name;
    direction[name] =
        posterior.draw(i, precision, {key.seed, key.round, key.client, purpose}).to(at::kFloat);
  }
  return direction;
}

}  // namespace drystone::adapters
