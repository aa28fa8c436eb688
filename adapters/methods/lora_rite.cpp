#include "adapters/methods/lora_rite.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include "adapters/methods/pair_method.h"
#include "adapters/methods/small_linalg.h"
#include "adapters/side_path.h"
#include "core/check.h"
#include "core/error.h"

namespace drystone::adapters {

namespace {

/// One factor's moments, in the orthonormal basis of the other factor; k modules.
struct Side {
  at::Tensor mean;     ///< M [k, size, rank], fp32 (fp64 for fp64 leaves)
  at::Tensor second;   ///< V [k, rank, rank] fp64
  at::Tensor escaped;  ///< ρ [k] fp64
  at::Tensor basis;    ///< of the factor itself at the last step [k, size, rank], as mean

  static Side fresh(const PairGroup& group, std::int64_t size) {
    const at::Tensor& leaf = group.front().a.tensor;
    const auto wide = leaf.options().dtype(at::kDouble).requires_grad(false);
    const auto kept = leaf.scalar_type() == at::kDouble ? wide : wide.dtype(at::kFloat);
    const auto k = static_cast<std::int64_t>(group.size());
    const std::int64_t rank = group.front().rank();
    return {.mean = at::zeros({k, size, rank}, kept),
            .second = at::zeros({k, rank, rank}, wide),
            .escaped = at::zeros({k}, wide),
            .basis = at::zeros({k, size, rank}, kept)};
  }

  /// Every field with its name.
  template <typename Visit>
  void visit(const Visit& visit_field) {
    visit_field("mean", mean);
    visit_field("second", second);
    visit_field("escaped", escaped);
    visit_field("basis", basis);
  }
};

/// A group between the two halves of a step.
struct Prepared {
  StackedPairs pairs;
  ThinQr a;              ///< of Aᵀ
  ThinQr b;              ///< of B
  at::Tensor inverse_a;  ///< R_A⁻¹ [k, rank, rank]
  at::Tensor inverse_b;
  at::Tensor u_a;  ///< unmagnified gradient [k, in, rank]
  at::Tensor u_b;  ///< [k, out, rank]
};

/// (c·A, B / c) with equal norms, and their gradients; pairs with a factor of 0 stay.
void balance_(StackedPairs& pairs) {
  const at::Tensor norm_a = at::linalg_vector_norm(pairs.a, 2, {1, 2}, /*keepdim=*/true);
  const at::Tensor norm_b = at::linalg_vector_norm(pairs.b, 2, {1, 2}, /*keepdim=*/true);
  const at::Tensor is_free = (norm_a > 0).logical_and(norm_b > 0);
  const at::Tensor ratio = at::where(is_free, norm_b / norm_a, at::ones_like(norm_a)).sqrt();
  pairs.a = pairs.a * ratio;
  pairs.b = pairs.b / ratio;
  pairs.grad_a = pairs.grad_a / ratio;
  pairs.grad_b = pairs.grad_b * ratio;
}

/// β(1 − βᵗ) / (1 − βᵗ⁺¹): an average that is unbiased from its first step on.
double unbiased(double beta, std::int64_t t) {
  const auto now = static_cast<double>(t);
  return beta * (1.0 - std::pow(beta, now)) / (1.0 - std::pow(beta, now + 1.0));
}

class LoraRiteOptimizer final : public Optimizer {
 public:
  LoraRiteOptimizer(const std::vector<Parameter>& parameters, const LoraRiteOptions& options,
                    const AdamWOptions& others, const Step& step)
      : sorted_(sort_pairs(parameters)),
        others_(sorted_.others, others),
        options_(options),
        step_(step) {
    for (const PairGroup& group : sorted_.groups) {
      moments_.push_back({.a = Side::fresh(group, group.front().in_features()),
                          .b = Side::fresh(group, group.front().out_features())});
    }
  }

  void step(double learning_rate) override {
    {
      const at::NoGradGuard no_grad;
      step_pairs(learning_rate);
    }
    others_.step(learning_rate);
  }
  void zero_grad() override {
    clear_gradients(sorted_.groups);
    others_.zero_grad();
  }
  std::map<std::string, at::Tensor> state() const override;
  void load_state(const std::map<std::string, at::Tensor>& state) override;

 private:
  struct Moments {
    Side a;
    Side b;
  };

  void step_pairs(double learning_rate);
  Prepared prepare(const PairGroup& group) const;
  void clip_(std::vector<Prepared>& prepared) const;
  at::Tensor update(Side& side, const at::Tensor& u, const at::Tensor& change) const;
  void update_escaped(Side& side, const at::Tensor& moved) const;
  at::Tensor magnifier_of_a(const PairGroup& group, const Prepared& now) const;

  SortedParameters sorted_;
  AdamW others_;
  LoraRiteOptions options_;
  const Step& step_;
  std::vector<Moments> moments_;  // as the groups
  std::int64_t steps_ = 0;
};

double cutoff_of(const PairGroup& group) {
  return rank_cutoff(group.front().a.tensor.scalar_type());
}

void LoraRiteOptimizer::step_pairs(double learning_rate) {
  std::vector<Prepared> prepared;
  prepared.reserve(sorted_.groups.size());
  for (const PairGroup& group : sorted_.groups) prepared.push_back(prepare(group));
  if (options_.clip > 0.0) clip_(prepared);
  const double rate_a = learning_rate * warmup_of_a(step_, options_.warmup);
  const double decay = learning_rate * options_.weight_decay;
  for (std::size_t i = 0; i < prepared.size(); ++i) {
    const Prepared& now = prepared[i];
    auto& [side_a, side_b] = moments_[i];
    const at::Tensor change_a = at::matmul(now.b.q.mT(), side_b.basis.to(at::kDouble));
    const at::Tensor change_b = at::matmul(now.a.q.mT(), side_a.basis.to(at::kDouble));
    const at::Tensor mean_a = update(side_a, now.u_a, change_a);
    const at::Tensor mean_b = update(side_b, now.u_b, change_b);
    side_a.basis.copy_(now.a.q);
    side_b.basis.copy_(now.b.q);
    const at::Tensor step_a = at::matmul(magnifier_of_a(sorted_.groups[i], now), mean_a.mT());
    const at::Tensor step_b = at::matmul(mean_b, now.inverse_a.mT());
    move_pairs_(sorted_.groups[i], now.pairs, now.pairs.a * -decay - step_a * rate_a,
                now.pairs.b * -decay - step_b * learning_rate);
  }
  ++steps_;
}

Prepared LoraRiteOptimizer::prepare(const PairGroup& group) const {
  Prepared now{.pairs = stack_pairs(group, "lora-rite")};
  if (options_.balance) balance_(now.pairs);
  now.a = thin_qr(now.pairs.a.mT());
  now.b = thin_qr(now.pairs.b);
  now.inverse_a = pseudo_inverse(now.a.r, cutoff_of(group));
  now.inverse_b = pseudo_inverse(now.b.r, cutoff_of(group));
  now.u_a = at::matmul(now.pairs.grad_a.mT(), now.inverse_b);
  now.u_b = at::matmul(now.pairs.grad_b, now.inverse_a);
  return now;
}

void LoraRiteOptimizer::clip_(std::vector<Prepared>& prepared) const {
  at::Tensor square;
  for (const Prepared& now : prepared) {
    add_term(square, now.u_a.square().sum() + now.u_b.square().sum());
  }
  if (!square.defined()) return;
  const at::Tensor factor =
      square.sqrt_().add_(1e-6).reciprocal_().mul_(options_.clip).clamp_max_(1.0);
  for (Prepared& now : prepared) {
    now.u_a.mul_(factor);
    now.u_b.mul_(factor);
  }
}

/// @param change  T, from the basis of the step before to the present one
/// @return        M [k, size, rank] fp64
at::Tensor LoraRiteOptimizer::update(Side& side, const at::Tensor& u,
                                     const at::Tensor& change) const {
  const at::Tensor moved = at::matmul(at::matmul(change, side.second), change.mT());
  if (options_.escape) update_escaped(side, moved);
  const at::Tensor square = at::matmul(u.mT(), u);
  double beta1 = options_.beta1;
  if (options_.sums) {
    side.second = moved + square;
  } else {
    beta1 = unbiased(options_.beta1, steps_);
    const double beta2 = unbiased(options_.beta2, steps_);
    side.second = moved * beta2 + square * ((1.0 - beta2) / static_cast<double>(u.size(1)));
  }
  const Eigenpairs second = eigenpairs(side.second);
  const at::Tensor roots = at::sqrt(second.values + side.escaped.unsqueeze(-1));
  const at::Tensor scaled =
      at::matmul(u, recompose(second, (roots + options_.epsilon).reciprocal()));
  at::Tensor mean =
      at::matmul(side.mean.to(at::kDouble), change.mT()) * beta1 + scaled * (1.0 - beta1);
  side.mean.copy_(mean);
  return mean;
}

/// Adds the most that an eigenvalue of V lost by the change of basis (the authors' program: at most
/// what the trace lost, and as an average).
void LoraRiteOptimizer::update_escaped(Side& side, const at::Tensor& moved) const {
  const at::Tensor lost = eigenpairs(side.second).values - eigenpairs(moved).values;
  if (options_.sums) {
    side.escaped = side.escaped + lost.abs().amax(-1);
    return;
  }
  const at::Tensor most = at::minimum(lost.amax(-1), lost.sum(-1)).clamp_min(0.0);
  side.escaped = (side.escaped + most) * unbiased(options_.beta2, steps_);
}

/// R_B⁻¹, or (BᵀB + δ·I)⁻¹·R_Bᵀ.
at::Tensor LoraRiteOptimizer::magnifier_of_a(const PairGroup& group, const Prepared& now) const {
  const double damping = options_.damping * remaining(step_);
  if (damping == 0.0) return now.inverse_b;
  const at::Tensor mean_square =
      now.pairs.a.square().sum({1, 2}) / static_cast<double>(group.front().rank());
  const Eigenpairs gram = eigenpairs(at::matmul(now.b.r.mT(), now.b.r));
  const double cutoff = std::max(cutoff_of(group) * cutoff_of(group), 1e-14);
  return at::matmul(pseudo_inverse(gram, mean_square * damping, cutoff), now.b.r.mT());
}

std::map<std::string, at::Tensor> LoraRiteOptimizer::state() const {
  std::map<std::string, at::Tensor> state = others_.state();
  for (std::size_t g = 0; g < moments_.size(); ++g) {
    for (std::size_t i = 0; i < sorted_.groups[g].size(); ++i) {
      const std::string& module = sorted_.groups[g][i].module;
      const auto save = [&](const std::string& leaf, Side side) {
        side.visit([&](const std::string& what, const at::Tensor& field) {
          state[leaf + what] = field[static_cast<std::int64_t>(i)].clone();
        });
      };
      save(module + ".lora_A.", moments_[g].a);
      save(module + ".lora_B.", moments_[g].b);
      state[module + ".lora_A.steps"] = at::scalar_tensor(steps_, at::kLong);
    }
  }
  return state;
}

void LoraRiteOptimizer::load_state(const std::map<std::string, at::Tensor>& state) {
  std::map<std::string, at::Tensor> others = state;
  std::vector<Moments> loaded;
  std::int64_t steps = 0;
  for (const PairGroup& group : sorted_.groups) {
    Moments moments{.a = Side::fresh(group, group.front().in_features()),
                    .b = Side::fresh(group, group.front().out_features())};
    for (std::size_t i = 0; i < group.size(); ++i) {
      const auto take = [&](const std::string& name) {
        auto node = others.extract(name);
        core::require(!node.empty(), "lora-rite: the saved state lacks " + name);
        return node.mapped();
      };
      const auto load = [&](const std::string& leaf, Side& side) {
        side.visit([&](const std::string& what, at::Tensor& field) {
          const at::Tensor place = field[static_cast<std::int64_t>(i)];
          std::string name = leaf;
          name += what;
          const at::Tensor saved = take(name);
          core::require(saved.sizes() == place.sizes(),
                        "lora-rite: the saved state of " + name + " does not fit");
          place.copy_(saved);
        });
      };
      load(group[i].module + ".lora_A.", moments.a);
      load(group[i].module + ".lora_B.", moments.b);
      steps = take(group[i].module + ".lora_A.steps").item<std::int64_t>();
    }
    loaded.push_back(std::move(moments));
  }
  others_.load_state(others);
  moments_ = std::move(loaded);
  steps_ = steps;
}

void check_ranks(models::Model& model, const AdapterSpec& spec) {
  for (const models::Linear* linear : match_linears(model, spec.target_modules)) {
    const std::int64_t most = smaller_side(linear->out_features(), linear->in_features());
    if (spec.rank <= most) continue;
    throw core::ConfigError(
        "training.rank: " + std::to_string(spec.rank) + " is more than lora-rite can use in " +
        linear->name + " (" + std::to_string(linear->out_features()) + " x " +
        std::to_string(linear->in_features()) + "); lower it to " + std::to_string(most) +
        " or leave the module out of training.target_modules");
  }
}

class LoraRite final : public PairAdapter {
 public:
  LoraRite(models::Model& model, const AdapterSpec& spec, const AdapterStart& start)
      : PairAdapter(model, spec, start) {
    options_.sums = text(spec, "moments") == "paper";
    const std::string& escape = text(spec, "escape");
    options_.escape = escape == "auto" ? options_.sums : escape == "on";
    options_.clip = number(spec, "clip");
    options_.balance = flag(spec, "balance");
    options_.damping = number(spec, "damping");
    options_.warmup = integer(spec, "warmup");
  }

  std::unique_ptr<Optimizer> make_optimizer(std::vector<Parameter> parameters,
                                            const AdamWOptions& options) override {
    options_.weight_decay = options.weight_decay;
    return make_lora_rite_optimizer(parameters, options_, options, current_step());
  }

 private:
  LoraRiteOptions options_;
};

std::unique_ptr<Adapter> make_lora_rite(models::Model& model, const AdapterSpec& spec,
                                        const AdapterStart& start) {
  check_ranks(model, spec);
  return std::make_unique<LoraRite>(model, spec, start);
}

std::vector<MethodOption> lora_rite_options() {
  return pair_options(
      {{.name = "moments",
        .default_value = std::string("code"),
        .help = "second moments: averages as in the authors' program, or the paper's sums",
        .choices = {"code", "paper"}},
       {.name = "escape",
        .default_value = std::string("auto"),
        .help = "account of what a change of basis drops; auto: with the paper's moments alone",
        .choices = {"auto", "on", "off"}},
       {.name = "clip",
        .default_value = 1.0,
        .help = "largest norm of all unmagnified gradients together; 0: any",
        .least = 0.0,
        .most = 1e9},
       {.name = "balance",
        .default_value = false,
        .help = "gives the factors of a module one norm before each step"},
       {.name = "damping",
        .default_value = 1e-5,
        .help = "of the inverse of BᵀB in A's step, relative to A's size, falling to 0 over the "
                "round; 0: none, as in the paper",
        .least = 0.0,
        .most = 1e3},
       {.name = "warmup",
        .default_value = std::int64_t{0},
        .help = "steps of a round in which A's rate grows from 0; 0: none, as in the paper",
        .least = 0,
        .most = 1e9}});
}

}  // namespace

std::unique_ptr<Optimizer> make_lora_rite_optimizer(const std::vector<Parameter>& parameters,
                                                    const LoraRiteOptions& options,
                                                    const AdamWOptions& others, const Step& step) {
  return std::make_unique<LoraRiteOptimizer>(parameters, options, others, step);
}

Method lora_rite_method() {
  return {.name = "lora-rite",
          .summary =
              "an adaptive step that does not depend on the factorisation (Yen et al., 2024, "
              "arXiv:2410.20625)",
          .options = lora_rite_options(),
          .make = make_lora_rite,
          .export_rank = pair_export_rank,
          .rank_limit = smaller_side,
          .continues = true};
}

}  // namespace drystone::adapters
