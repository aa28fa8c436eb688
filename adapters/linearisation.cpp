#include "adapters/linearisation.h"

#include <algorithm>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "adapters/side_path.h"
#include "core/error.h"

namespace drystone::adapters {

namespace {

constexpr std::string_view kHead = "head";

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

}  // namespace

Linearisation::Linearisation(models::Model& model, const AdapterSpec& spec,
                             const AdapterStart& start)
    : ObservedModel(model, spec, start) {
  if (!head()) throw core::ConfigError("posterior: only classifiers are predicted with");
}

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
      add(module + ".lora_A", layer->a(), module + ".input", module + ".hidden_gradient", tokens);
      add(module + ".lora_B", layer->b(), module + ".hidden", module + ".output_gradient", tokens);
    }
  }
  if (which != Uncertain::Factors) {
    add(std::string(kHead), head()->parameters(), "head.input", "head.output_gradient", 1.0);
  }
  return {std::move(blocks), scalar_in(curvature, "log_likelihood") * count};
}

std::map<std::string, at::Tensor> Linearisation::jacobians(const models::Batch& batch,
                                                           const Pass& pass) {
  const std::int64_t rows = pass.logits.size(0);
  const std::int64_t classes = pass.logits.size(1);
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
  std::map<std::string, at::Tensor> all;
  const auto keep = [&](const std::string& name, std::int64_t c, const at::Tensor& jacobian) {
    at::Tensor& whole = all[name];
    if (!whole.defined()) {
      whole = at::zeros({rows, classes, jacobian.size(1), jacobian.size(2)}, jacobian.options());
    }
    whole.select(1, c).copy_(jacobian);
  };
  for (std::int64_t c = 0; c < classes; ++c) {
    const at::NoGradGuard no_grad;
    at::Tensor weights = at::zeros({rows, classes}, pass.logits.options());
    weights.select(1, c).fill_(1.0);
    const Gradients found = gradients(pass.logits, weights, c + 1 == classes);
    for (std::size_t i = 0; i < observed().size(); ++i) {
      const std::string& module = observed()[i]->module();
      const at::Tensor of_hidden = places[i].of(found.hidden[i]);
      const at::Tensor of_output = places[i].of(found.output[i]);
      keep(module + ".lora_A", c, products[i].product(of_hidden, inputs[i]));
      keep(module + ".lora_B", c, products[i].product(of_output, hiddens[i]));
    }
  }
  all[std::string(kHead)] = head_jacobian(*head(), pass.features, classes);
  return all;
}

Linearisation::Answer Linearisation::predict(const models::Batch& batch,
                                             std::span<const Query> queries) {
  const Pass pass = forward(batch);
  const at::NoGradGuard no_grad;
  Answer answer{.mean = pass.logits.detach().to(at::kCPU, at::kDouble), .covariances = {}};
  const std::map<std::string, at::Tensor> all = jacobians(batch, pass);
  for (const Query& query : queries) {
    at::Tensor sum;
    for (std::size_t i = 0; i < query.posterior->blocks().size(); ++i) {
      const at::Tensor& jacobian = all.at(query.posterior->blocks()[i].name);
      add_term(sum, query.posterior->covariance(i, jacobian, query.precisions));
    }
    answer.covariances.push_back(sum);
  }
  return answer;
}

}  // namespace drystone::adapters
