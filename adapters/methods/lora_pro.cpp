#include "adapters/methods/lora_pro.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "adapters/methods/pair_method.h"
#include "adapters/methods/small_linalg.h"
#include "adapters/split_optimizer.h"
#include "core/check.h"
#include "core/error.h"

namespace drystone::adapters {

namespace {

constexpr double kLeastCutoff = 1e-14;  // of a Gram matrix in float64

struct Settings {
  double scale = 1.0;
  FreeMatrix free_matrix = FreeMatrix::Sylvester;
  double damping = 0.0;
  std::int64_t warmup = 0;
  const Step& step;

  double damping_now() const { return damping * remaining(step); }
};

/// Of the eigenvalues of AAᵀ and BᵀB: squares of singular values.
double gram_cutoff(const PairGroup& group) {
  const double cutoff = rank_cutoff(group.front().a.tensor.scalar_type());
  return std::max(cutoff * cutoff, kLeastCutoff);
}

Directions directions(const PairGroup& group, const StackedPairs& pairs, const Settings& settings,
                      FreeMatrix free_matrix) {
  return lora_pro_directions(pairs, settings.scale, free_matrix, settings.damping_now(),
                             gram_cutoff(group));
}

bool is_a(std::string_view name) { return is_factor(name) && name.ends_with("_A"); }

/// AdamW on the directions in place of the gradients: moments of the factors' size.
class EfficientLoraPro final : public SplitAdamW {
 public:
  EfficientLoraPro(const std::vector<Parameter>& parameters, const AdamWOptions& options,
                   const Settings& settings)
      : SplitAdamW(parameters, is_a, options, options),
        groups_(sort_pairs(parameters).groups),
        settings_(settings) {}

  void step(double learning_rate) override {
    adjust_gradients();
    step_special(learning_rate * warmup_of_a(settings_.step, settings_.warmup));
    step_others(learning_rate);
  }

 private:
  void adjust_gradients() {
    const at::NoGradGuard no_grad;
    for (const PairGroup& group : groups_) {
      const StackedPairs pairs = stack_pairs(group, "lora-pro");
      const Directions adjusted = directions(group, pairs, settings_, settings_.free_matrix);
      for (std::size_t i = 0; i < group.size(); ++i) {
        const auto at = static_cast<std::int64_t>(i);
        const auto& [module, a, b] = group[i];
        a.tensor.mutable_grad() = adjusted.a[at].to(a.tensor.scalar_type());
        b.tensor.mutable_grad() = adjusted.b[at].to(b.tensor.scalar_type());
      }
    }
  }

  std::vector<PairGroup> groups_;
  Settings settings_;
};

/// Adam's moments of the step's effect on W; what Adam makes of it goes back to the factors.
class FullLoraPro final : public Optimizer {
 public:
  FullLoraPro(const std::vector<Parameter>& parameters, const AdamWOptions& options,
              const Settings& settings)
      : sorted_(sort_pairs(parameters)),
        others_(sorted_.others, options),
        options_(options),
        settings_(settings) {
    for (const PairGroup& group : sorted_.groups) {
      for (const LeafPair& pair : group) moments_[pair.module] = fresh(pair);
    }
  }

  void step(double learning_rate) override {
    {
      const at::NoGradGuard no_grad;
      for (const PairGroup& group : sorted_.groups) step_group(group, learning_rate);
    }
    others_.step(learning_rate);
  }
  void zero_grad() override {
    clear_gradients(sorted_.groups);
    others_.zero_grad();
  }
  std::map<std::string, at::Tensor> state() const override;
  void load_state(const std::map<std::string, at::Tensor>& state) override;

  /// The moments of W, by "<module>.<what>": they depend on no factorisation and no rank.
  TensorMap moments() const;
  /// Modules that are not in it begin anew. @throws core::ConfigError  another shape
  void set_moments(const TensorMap& saved);

 private:
  struct Moments {
    at::Tensor mean;    ///< [out, in]
    at::Tensor square;  ///< [out, in]
    at::Tensor steps;   ///< [] fp32
  };

  static Moments fresh(const LeafPair& pair) {
    const auto options = pair.a.tensor.scalar_type() == at::kDouble
                             ? pair.a.tensor.options()
                             : pair.a.tensor.options().dtype(at::kFloat);
    return {.mean = at::zeros({pair.out_features(), pair.in_features()}, options),
            .square = at::zeros({pair.out_features(), pair.in_features()}, options),
            .steps = at::zeros({}, options.dtype(at::kFloat))};
  }

  /// Adam's normalised step for W from the matrix closest to its gradient.
  at::Tensor adam_step(Moments& moments, const at::Tensor& gradient) const {
    moments.steps.add_(1);
    at::Tensor step = at::zeros_like(gradient);  // 0 − (−1) · step
    at::_fused_adamw_({step}, {gradient}, {moments.mean}, {moments.square}, {}, {moments.steps},
                      /*lr=*/-1.0, options_.beta1, options_.beta2, /*weight_decay=*/0.0,
                      options_.epsilon, /*amsgrad=*/false, /*maximize=*/false);
    return step;
  }

  void step_group(const PairGroup& group, double learning_rate) {
    StackedPairs pairs = stack_pairs(group, "lora-pro");
    const Directions first = directions(group, pairs, settings_, FreeMatrix::Zero);
    for (std::size_t i = 0; i < group.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i);
      Moments& moments = moments_.at(group[i].module);
      const auto dtype = moments.mean.scalar_type();
      const at::Tensor a = pairs.a[at].to(dtype);
      const at::Tensor b = pairs.b[at].to(dtype);
      // s·(B·ĝA + ĝB·A) as one product
      const at::Tensor left = at::cat({b, first.b[at].to(dtype)}, /*dim=*/1) * settings_.scale;
      const at::Tensor right = at::cat({first.a[at].to(dtype), a}, /*dim=*/0);
      const at::Tensor step = adam_step(moments, at::mm(left, right));
      pairs.grad_a[at].copy_(at::mm(b.t(), step) * settings_.scale);
      pairs.grad_b[at].copy_(at::mm(step, a.t()) * settings_.scale);
    }
    const Directions second = directions(group, pairs, settings_, settings_.free_matrix);
    // ΔW decays as a weight of its own would: each factor by the root.
    const double kept = std::sqrt(1.0 - learning_rate * options_.weight_decay) - 1.0;
    const double rate_a = learning_rate * warmup_of_a(settings_.step, settings_.warmup);
    move_pairs_(group, pairs, pairs.a * kept - second.a * rate_a,
                pairs.b * kept - second.b * learning_rate);
  }

  SortedParameters sorted_;
  AdamW others_;
  AdamWOptions options_;
  Settings settings_;
  std::map<std::string, Moments> moments_;
};

std::map<std::string, at::Tensor> FullLoraPro::state() const {
  std::map<std::string, at::Tensor> state = others_.state();
  for (const auto& [module, moments] : moments_) {
    state[module + ".lora_A.mean"] = moments.mean.clone();
    state[module + ".lora_A.square"] = moments.square.clone();
    state[module + ".lora_A.steps"] = moments.steps.clone();
  }
  return state;
}

void FullLoraPro::load_state(const std::map<std::string, at::Tensor>& state) {
  std::map<std::string, at::Tensor> others = state;
  std::map<std::string, Moments> loaded;
  for (const auto& entry : moments_) {
    const std::string& module = entry.first;
    const Moments& moments = entry.second;
    const auto take = [&](const char* what, const at::Tensor& like) {
      const std::string name = module + ".lora_A." + what;
      const auto found = state.find(name);
      core::require(found != state.end() && found->second.sizes() == like.sizes(),
                    "lora-pro: the saved state of " + module + " is missing or does not fit");
      others.erase(name);
      return found->second.to(like.options()).clone();
    };
    loaded[module] = {.mean = take("mean", moments.mean),
                      .square = take("square", moments.square),
                      .steps = take("steps", moments.steps)};
  }
  others_.load_state(others);
  moments_ = std::move(loaded);
}

TensorMap FullLoraPro::moments() const {
  TensorMap saved;
  for (const auto& [module, moments] : moments_) {
    saved[module + ".mean"] = moments.mean.to(at::kCPU, /*non_blocking=*/false, /*copy=*/true);
    saved[module + ".square"] = moments.square.to(at::kCPU, false, /*copy=*/true);
    saved[module + ".steps"] = moments.steps.to(at::kCPU, false, /*copy=*/true);
  }
  return saved;
}

void FullLoraPro::set_moments(const TensorMap& saved) {
  for (auto& [module, moments] : moments_) {
    if (!saved.contains(module + ".mean")) continue;
    const at::Tensor& mean = saved.at(module + ".mean");
    if (mean.sizes() != moments.mean.sizes()) {
      throw core::ConfigError("training.options.keep_moments: those of " + module +
                              " are of another model; remove the client's memory folder");
    }
    moments.mean.copy_(mean);
    moments.square.copy_(saved.at(module + ".square"));
    moments.steps.copy_(saved.at(module + ".steps"));
  }
}

FreeMatrix parse_free_matrix(const std::string& name) {
  if (name == "zero") return FreeMatrix::Zero;
  return name == "symmetric" ? FreeMatrix::Symmetric : FreeMatrix::Sylvester;
}

class LoraPro final : public PairAdapter {
 public:
  LoraPro(models::Model& model, const AdapterSpec& spec, const AdapterStart& start)
      : PairAdapter(model, spec, start),
        is_full_(text(spec, "mode") == "full"),
        keeps_moments_(flag(spec, "keep_moments")),
        settings_{.scale = pair_scale(spec),
                  .free_matrix = parse_free_matrix(text(spec, "x")),
                  .damping = number(spec, "damping"),
                  .warmup = integer(spec, "warmup"),
                  .step = current_step()} {
    if (keeps_moments_ && start.memory != nullptr) kept_ = *start.memory;
  }

  std::unique_ptr<Optimizer> make_optimizer(std::vector<Parameter> parameters,
                                            const AdamWOptions& options) override {
    if (!is_full_) return std::make_unique<EfficientLoraPro>(parameters, options, settings_);
    auto full = std::make_unique<FullLoraPro>(parameters, options, settings_);
    full->set_moments(kept_);
    full_ = full.get();
    return full;
  }

  TensorMap memory() const override {
    return keeps_moments_ && full_ != nullptr ? full_->moments() : TensorMap{};
  }

 private:
  bool is_full_;
  bool keeps_moments_;
  TensorMap kept_;
  const FullLoraPro* full_ = nullptr;  ///< the optimiser that was made, which outlives the steps
  Settings settings_;
};

std::unique_ptr<Adapter> make_lora_pro(models::Model& model, const AdapterSpec& spec,
                                       const AdapterStart& start) {
  return std::make_unique<LoraPro>(model, spec, start);
}

std::int64_t lora_pro_export_rank(const AdapterSpec& spec) {
  if (flag(spec, "keep_moments") && text(spec, "mode") != "full") {
    throw core::ConfigError(
        "training.options.keep_moments: efficient mode has moments of factors that the next round "
        "replaces; set mode = \"full\"");
  }
  return pair_export_rank(spec);
}

std::vector<MethodOption> lora_pro_options() {
  return pair_options({{.name = "mode",
                        .default_value = std::string("efficient"),
                        .help = "where Adam's moments live: on the factors, or on W",
                        .choices = {"efficient", "full"}},
                       {.name = "x",
                        .default_value = std::string("sylvester"),
                        .help = "the matrix that the effect on W leaves free",
                        .choices = {"sylvester", "zero", "symmetric"}},
                       {.name = "damping",
                        .default_value = 1e-3,
                        .help = "of the inverse of BᵀB, relative to A's size, falling to 0 over "
                                "the round; 0: none, as in the paper",
                        .least = 0.0,
                        .most = 1e3},
                       {.name = "warmup",
                        .default_value = std::int64_t{5},
                        .help = "steps of a round in which A's rate grows from 0; 0: none, as in "
                                "the paper",
                        .least = 0,
                        .most = 1e9},
                       {.name = "keep_moments",
                        .default_value = false,
                        .help = "full mode: the client keeps its moments of W over the rounds"}});
}

}  // namespace

Directions lora_pro_directions(const StackedPairs& pairs, double scale, FreeMatrix free_matrix,
                               double damping, double cutoff) {
  const auto rank = static_cast<double>(pairs.a.size(1));
  const Eigenpairs aa = eigenpairs(at::matmul(pairs.a, pairs.a.mT()));
  const Eigenpairs bb = eigenpairs(at::matmul(pairs.b.mT(), pairs.b));
  const at::Tensor no_shift = at::zeros({}, pairs.a.options());
  const at::Tensor inverse_a = pseudo_inverse(aa, no_shift, cutoff);
  const at::Tensor inverse_b = pseudo_inverse(bb, aa.values.sum(-1) * (damping / rank), cutoff);
  const double factor = 1.0 / (scale * scale);
  const at::Tensor first_a = at::matmul(inverse_b, pairs.grad_a) * factor;
  const at::Tensor gram = at::matmul(pairs.b.mT(), pairs.grad_b);  // Bᵀ·gB
  const at::Tensor rest = pairs.grad_b - at::matmul(pairs.b, at::matmul(inverse_b, gram));
  const at::Tensor first_b = at::matmul(rest, inverse_a) * factor;
  if (free_matrix == FreeMatrix::Zero) return {.a = first_a, .b = first_b};
  at::Tensor x;
  if (free_matrix == FreeMatrix::Symmetric) {
    x = at::matmul(at::matmul(inverse_b, gram), inverse_a) * (-0.5 * factor);
  } else {
    const at::Tensor right_side =
        at::matmul(pairs.b.mT(), first_b) - at::matmul(first_a, pairs.a.mT());
    x = solve_sylvester(bb, aa, right_side, cutoff);
  }
  return {.a = first_a + at::matmul(x, pairs.a), .b = first_b - at::matmul(pairs.b, x)};
}

Method lora_pro_method() {
  return {.name = "lora-pro",
          .summary =
              "LoRA whose steps follow W's own gradient as closely as they can (Wang et al., 2024, "
              "arXiv:2407.18242)",
          .options = lora_pro_options(),
          .make = make_lora_pro,
          .export_rank = lora_pro_export_rank,
          .continues = true};
}

}  // namespace drystone::adapters
