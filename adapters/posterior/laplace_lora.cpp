#include "adapters/posterior/laplace_lora.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/one_hot.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "adapters/posterior/kronecker.h"
#include "adapters/posterior/observed_layers.h"
#include "core/check.h"
#include "core/client_list.h"
#include "core/error.h"
#include "models/loss.h"

namespace drystone::adapters {

namespace {

/// Σ v vᵀ over rows v, or its sketch, in fp64.
class OuterSum {
 public:
  OuterSum(const SketchPlan& plan, const std::string& name, std::int64_t dimension,
           at::Device device) {
    if (!plan.is_dense(dimension)) omega_ = plan.omega(name, dimension).to(device);
    sum_ = at::zeros({dimension, plan.columns(dimension)},
                     at::TensorOptions(device).dtype(at::kDouble));
  }

  void add(const at::Tensor& rows) {
    const at::Tensor right =
        omega_.defined() ? at::matmul(rows, omega_.to(rows.scalar_type())) : rows;
    sum_.add_(at::matmul(rows.t(), right).to(at::kDouble));
  }
  at::Tensor mean(double count) const {
    return (sum_ / count).to(at::kCPU, at::kFloat).contiguous();
  }

 private:
  at::Tensor omega_;
  at::Tensor sum_;
};

/// The sums of one observed module.
struct ModuleSums {
  ModuleSums(const ObservedLayer& layer, const SketchPlan& plan)
      : input(plan, layer.module() + ".input", layer.a().size(1), layer.a().device()),
        hidden(plan, layer.module() + ".hidden", layer.a().size(0), layer.a().device()),
        hidden_gradient(plan, layer.module() + ".hidden_gradient", layer.a().size(0),
                        layer.a().device()),
        output_gradient(plan, layer.module() + ".output_gradient", layer.b().size(0),
                        layer.a().device()) {}

  OuterSum input;
  OuterSum hidden;
  OuterSum hidden_gradient;
  OuterSum output_gradient;
  std::int64_t tokens = 0;
};

at::Tensor scalar(double value) { return at::full({1}, value, at::kFloat); }

/// The labels that the likelihood is over, and of which row each is.
struct Labels {
  at::Tensor values;               ///< [targets] int64
  std::vector<std::int64_t> rows;  ///< [targets], ascending
};

Labels labels_of(const models::Batch& batch) {
  core::require(batch.labels.defined(), "laplace-lora: data without labels");
  if (batch.labels.is_floating_point()) {
    throw core::ConfigError(
        "training.method: \"laplace-lora\" needs classes or tokens; it has no noise level for "
        "regression");
  }
  Labels labels;
  if (batch.labels.dim() == 1) {
    labels.values = batch.labels;
    for (std::int64_t row = 0; row < batch.labels.size(0); ++row) {
      labels.rows.push_back(row);
    }
    return labels;
  }
  const models::Targets targets = models::find_targets(batch);
  labels.values = targets.labels;
  const at::Tensor places = targets.positions.to(at::kCPU).contiguous();
  for (std::int64_t i = 0; i < places.size(0); ++i) {
    labels.rows.push_back(places.const_data_ptr<std::int64_t>()[i] / batch.input_ids.size(1));
  }
  return labels;
}

/// What a row's draws are keyed by: its tokens, which are the same whoever holds the example.
std::string draw_name(const models::Batch& batch, std::int64_t row, std::int64_t sample) {
  at::Tensor ids = batch.input_ids[row].to(at::kCPU);
  if (batch.pad_mask.defined()) ids = ids.masked_select(batch.pad_mask[row].to(at::kCPU));
  ids = ids.to(at::kInt).contiguous();
  std::string name = "laplace-label/" + std::to_string(sample) + "/";
  for (std::int64_t t = 0; t < ids.numel(); ++t) {
    name += std::to_string(ids.const_data_ptr<std::int32_t>()[t]) + " ";
  }
  return name;
}

class LaplaceLora final : public ObservedModel {
 public:
  LaplaceLora(models::Model& model, const AdapterSpec& spec, const AdapterStart& start)
      : ObservedModel(model, spec, start),
        plan_(sketch_plan(spec, start.seed)),
        samples_(text(spec, "labels") == "exact" ? 0 : integer(spec, "samples")),
        seed_(start.seed) {
    for (const ObservedLayer* layer : observed()) modules_.emplace_back(*layer, plan_);
    if (!head()) return;
    const at::Device device = head()->weight->device();
    head_input_.emplace(plan_, "head.input", head()->in_features(), device);
    head_gradient_.emplace(plan_, "head.output_gradient", head()->weight->size(0), device);
  }

  double observe(const Observation& seen) override {
    double loss = 0.0;
    for (const models::Batch& part : parts_of(seen.batch)) loss += observe_part(part);
    num_examples_ += seen.batch.input_ids.size(0);
    return loss;
  }

  TensorMap statistics() const override {
    core::require(num_examples_ > 0, "laplace-lora: no example was observed");
    const auto count = static_cast<double>(num_examples_);
    TensorMap all;
    for (std::size_t i = 0; i < modules_.size(); ++i) {
      const std::string& module = observed()[i]->module();
      const ModuleSums& sums = modules_[i];
      all[module + ".input"] = sums.input.mean(count);
      all[module + ".hidden"] = sums.hidden.mean(count);
      all[module + ".hidden_gradient"] = sums.hidden_gradient.mean(count);
      all[module + ".output_gradient"] = sums.output_gradient.mean(count);
      all[module + ".tokens"] = scalar(static_cast<double>(sums.tokens) / count);
    }
    if (head()) {
      all["head.input"] = head_input_->mean(count);
      all["head.output_gradient"] = head_gradient_->mean(count);
    }
    all["log_likelihood"] = scalar(log_likelihood_ / count);
    return all;
  }

 private:
  double observe_part(const models::Batch& batch) {
    Labels labels = labels_of(batch);
    if (!head() && samples_ == 0) {
      throw core::ConfigError(
          "training.options.labels: the exact expectation takes a backward pass for each entry of "
          "a language model's vocabulary; set it to \"sampled\"");
    }
    const Pass pass = forward(batch);
    const at::Tensor log_p = at::log_softmax(pass.logits.detach(), -1);
    labels.values = labels.values.to(log_p.device());
    const double log_likelihood =
        log_p.gather(1, labels.values.unsqueeze(1)).to(at::kDouble).sum().item<double>();
    log_likelihood_ += log_likelihood;
    add_inputs(batch, pass);
    add_gradients(batch, pass, log_p, labels);
    return -log_likelihood;
  }

  void add_inputs(const models::Batch& batch, const Pass& pass) {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < modules_.size(); ++i) {
      const ObservedLayer& layer = *observed()[i];
      const Places places = places_of(layer.input(), batch);
      modules_[i].input.add(places.of(layer.input()));
      modules_[i].hidden.add(places.of(layer.flat_hidden()));
      modules_[i].tokens += static_cast<std::int64_t>(places.rows.size());
    }
    if (head()) head_input_->add(head()->augmented(pass.features));
  }

  void add_gradients(const models::Batch& batch, const Pass& pass, const at::Tensor& log_p,
                     const Labels& labels) {
    const std::int64_t classes = log_p.size(1);
    const at::Tensor p = log_p.exp();
    const std::int64_t passes = samples_ == 0 ? classes : samples_;
    for (std::int64_t i = 0; i < passes; ++i) {
      const at::NoGradGuard no_grad;
      at::Tensor weights;
      if (samples_ == 0) {  // √p_y (e_y − p): the sum of the squares is the expectation over y
        const at::Tensor y = at::full({log_p.size(0)}, i, labels.values.options());
        weights = (at::one_hot(y, classes) - p) * (log_p.select(1, i) * 0.5).exp().unsqueeze(1);
      } else {
        const at::Tensor y = draw(batch, p, labels, i);
        weights = (at::one_hot(y, classes) - p) / std::sqrt(static_cast<double>(samples_));
      }
      add_gradients(batch, pass, weights.to(p.scalar_type()), i + 1 == passes);
    }
  }

  void add_gradients(const models::Batch& batch, const Pass& pass, const at::Tensor& weights,
                     bool last) {
    const Gradients found = gradients(pass.logits, weights, last);
    for (std::size_t i = 0; i < modules_.size(); ++i) {
      const Places places = places_of(observed()[i]->input(), batch);
      modules_[i].hidden_gradient.add(places.of(found.hidden[i]));
      modules_[i].output_gradient.add(places.of(found.output[i]));
    }
    if (head()) head_gradient_->add(weights);
  }

  /// A label for each target from the model's own probabilities, keyed by text and sample, so that
  /// neither batch size nor order nor who holds the example matters.
  at::Tensor draw(const models::Batch& batch, const at::Tensor& p, const Labels& labels,
                  std::int64_t sample) const {
    std::vector<double> uniforms;
    core::SplitMix64 stream(seed_);
    for (std::size_t i = 0; i < labels.rows.size(); ++i) {
      if (i == 0 || labels.rows[i] != labels.rows[i - 1]) {
        const std::string name = draw_name(batch, labels.rows[i], sample);
        stream = core::SplitMix64(core::StreamKey{.seed = seed_, .purpose = name});
      }
      uniforms.push_back(stream.uniform());
    }
    const at::Tensor total = at::cumsum(p, 1, at::kDouble);
    const at::Tensor u =
        at::tensor(uniforms).to(total.options()).unsqueeze(1) * total.narrow(1, -1, 1);
    const at::Tensor y = at::searchsorted(total, u, /*out_int32=*/false, /*right=*/true);
    return y.squeeze(1).clamp_max(p.size(1) - 1);
  }

  SketchPlan plan_;
  std::int64_t samples_;  ///< 0: the exact expectation
  std::uint64_t seed_;
  std::vector<ModuleSums> modules_;
  std::optional<OuterSum> head_input_;
  std::optional<OuterSum> head_gradient_;
  double log_likelihood_ = 0.0;
  std::int64_t num_examples_ = 0;
};

std::unique_ptr<Adapter> make_laplace(models::Model& model, const AdapterSpec& spec,
                                      const AdapterStart& start) {
  return std::make_unique<LaplaceLora>(model, spec, start);
}

std::map<std::string, std::vector<std::int64_t>> statistic_shapes(models::Model& model,
                                                                  const AdapterSpec& spec) {
  const SketchPlan plan = sketch_plan(spec, /*seed=*/0);
  std::map<std::string, std::vector<std::int64_t>> shapes;
  const auto add = [&](const std::string& name, std::int64_t dimension) {
    shapes[name] = {dimension, plan.columns(dimension)};
  };
  for (const models::Linear* linear : match_linears(model, spec.target_modules)) {
    add(linear->name + ".input", linear->in_features());
    add(linear->name + ".hidden", spec.rank);
    add(linear->name + ".hidden_gradient", spec.rank);
    add(linear->name + ".output_gradient", linear->out_features());
    shapes[linear->name + ".tokens"] = {1};
  }
  if (const std::optional<Head> head = find_head(model)) {
    add("head.input", head->in_features());
    add("head.output_gradient", head->weight->size(0));
  }
  shapes["log_likelihood"] = {1};
  return shapes;
}

}  // namespace

bool SketchPlan::is_dense(std::int64_t dimension) const {
  return dimension <= dense_up_to || columns(dimension) == dimension;
}

std::int64_t SketchPlan::columns(std::int64_t dimension) const {
  constexpr std::int64_t kSurplus = 10;
  if (dimension <= dense_up_to) return dimension;
  return std::min(dimension, 2 * rank + kSurplus);
}

at::Tensor SketchPlan::omega(const std::string& statistic, std::int64_t dimension) const {
  const std::string purpose = "laplace-sketch/" + statistic;
  return sketch_matrix({seed, 0, "", purpose}, dimension, columns(dimension));
}

SketchPlan sketch_plan(const AdapterSpec& spec, std::uint64_t seed) {
  return {.dense_up_to = integer(spec, "dense_up_to"),
          .rank = integer(spec, "kfac_rank"),
          .seed = seed};
}

Method laplace_lora_method() {
  return {
      .name = core::kPosteriorMethod,
      .summary =
          "a posterior over trained factors, in one pass (Yang et al., 2024, "
          "arXiv:2308.13111)",
      .options =
          {{"labels",
            std::string("exact"),
            "what the curvature expects labels from: exact (a backward pass a class) or sampled",
            0,
            0,
            {"exact", "sampled"}},
           {"samples", std::int64_t{1}, "sampled labels of each example", 1, 1000},
           {"dense_up_to", std::int64_t{1024}, "dimension up to which a Kronecker factor is exact",
            1, 65536},
           {"kfac_rank", std::int64_t{32}, "eigenpairs of a factor above dense_up_to", 1, 4096}},
      .make = make_laplace,
      .continues = true,
      .trains = false,
      .statistics = statistic_shapes};
}

}  // namespace drystone::adapters
