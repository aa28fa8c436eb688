#include "adapters/methods/lora_ensemble.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <numeric>
#include <span>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "adapters/methods/base_pass.h"
#include "adapters/methods/output_regularisers.h"
#include "adapters/methods/table.h"
#include "adapters/side_path.h"
#include "adapters/specification.h"
#include "core/check.h"
#include "core/error.h"
#include "core/seed.h"
#include "core/text.h"

namespace drystone::adapters {

namespace {

constexpr std::string_view kLoraEnsemble = "lora-ensemble";

/// What a member may be: a method that collects nothing beside its factors.
std::span<const Method> member_methods() {
  static const std::vector<Method> known = [] {
    std::vector<Method> plain;
    std::ranges::copy_if(plain_methods(), std::back_inserter(plain),
                         [](const Method& method) { return method.statistics == nullptr; });
    return plain;
  }();
  return known;
}

std::vector<std::string_view> names_of(std::span<const Method> methods) {
  std::vector<std::string_view> names;
  for (const Method& method : methods) names.push_back(method.name);
  return names;
}

const Method& member_method(const AdapterSpec& spec) {
  return *std::ranges::find(member_methods(), text(spec, "of"), &Method::name);
}

/// The specification of the method that a member is, without the ensemble's own options.
AdapterSpec inner_spec(const AdapterSpec& spec) {
  const Method& method = member_method(spec);
  AdapterSpec inner = spec;
  inner.method = method.name;
  inner.options.clear();
  for (const MethodOption& option : method.options) {
    const std::string name(option.name);
    inner.options[name] = spec.options.at(name);
  }
  return inner;
}

class BDecay final : public Optimizer {
 public:
  BDecay(std::unique_ptr<Optimizer> inner, std::vector<Parameter> b, double decay)
      : inner_(std::move(inner)), b_(std::move(b)), decay_(decay) {}

  void step(double learning_rate) override {
    {
      const at::NoGradGuard no_grad;
      for (const Parameter& parameter : b_) {
        if (!parameter.tensor.grad().defined()) continue;
        const double rate = learning_rate * parameter.rate_factor;
        parameter.tensor.mul_(std::max(0.0, 1.0 - rate * decay_));
      }
    }
    inner_->step(learning_rate);
  }
  void zero_grad() override { inner_->zero_grad(); }
  std::map<std::string, at::Tensor> state() const override { return inner_->state(); }
  void load_state(const std::map<std::string, at::Tensor>& state) override {
    inner_->load_state(state);
  }

 private:
  std::unique_ptr<Optimizer> inner_;
  std::vector<Parameter> b_;
  double decay_;
};

/// The method `of` with the regularisers around it.
class EnsembleMember final : public Adapter {
 public:
  EnsembleMember(models::Model& model, const AdapterSpec& spec, const AdapterStart& start)
      : kl_(number(spec, "kl")),
        to_base_(text(spec, "kl_direction") == "model-base"),
        b_decay_(number(spec, "b_decay")) {
    if (kl_ > 0.0) base_.emplace(model, start);
    inner_ = make_adapter(member_method(spec), model, inner_spec(spec), start);
  }

  void attach() override { inner_->attach(); }
  void detach() override { inner_->detach(); }
  std::vector<Parameter> parameters() const override { return inner_->parameters(); }
  std::unique_ptr<Optimizer> make_optimizer(std::vector<Parameter> parameters,
                                            const AdamWOptions& options) override {
    const std::vector<Parameter> all = parameters;
    auto optimizer = inner_->make_optimizer(std::move(parameters), options);
    return b_decay_ > 0.0 ? decay_b(std::move(optimizer), all, b_decay_) : std::move(optimizer);
  }
  void before_step(const Step& step) override {
    inner_->before_step(step);
    if (base_) base_->start_step();
  }
  void on_gradients(const Step& step) override { inner_->on_gradients(step); }
  void after_step(const Step& step) override { inner_->after_step(step); }
  bool needs_logits() const override { return kl_ > 0.0 || inner_->needs_logits(); }
  std::int64_t own_passes() const override {
    return inner_->own_passes() + (base_ ? base_->num_passes() : 0);
  }
  at::Tensor extra_loss(const LossContext& context) override {
    at::Tensor sum = inner_->extra_loss(context);
    if (base_) add_term(sum, divergence(context) * kl_);
    return sum;
  }
  double held_out_share() const override { return inner_->held_out_share(); }
  void upper_step(const UpperContext& context) override { inner_->upper_step(context); }
  std::map<std::string, tensors::Factors> export_delta() const override {
    return inner_->export_delta();
  }
  TensorMap memory() const override { return inner_->memory(); }
  TensorMap state() const override { return inner_->state(); }
  void load_state(const TensorMap& state) override { inner_->load_state(state); }

 private:
  at::Tensor divergence(const LossContext& context) {
    if (context.logits.size(-1) < 2) {
      throw core::ConfigError(
          "training.options.kl: regression has no distribution to compare; set kl = 0");
    }
    const at::Tensor base = base_->logits(context);
    return to_base_ ? distillation(base, context.logits, /*temperature=*/1.0)
                    : distillation(context.logits, base, /*temperature=*/1.0);
  }

  double kl_;
  bool to_base_;
  double b_decay_;
  std::optional<BasePass> base_;
  std::unique_ptr<Adapter> inner_;
};

std::unique_ptr<Adapter> make_member(models::Model& model, const AdapterSpec& spec,
                                     const AdapterStart& start) {
  return std::make_unique<EnsembleMember>(model, spec, start);
}

std::int64_t member_export_rank(const AdapterSpec& spec) {
  if (integer(spec, "member") >= integer(spec, "members")) {
    throw core::ConfigError("training.options.member: " + std::to_string(integer(spec, "member")) +
                            " is none of the " + std::to_string(integer(spec, "members")) +
                            " members, which count from 0");
  }
  return export_rank(member_method(spec), inner_spec(spec));
}

MethodOption count_option(std::string_view name, std::int64_t by_default, std::string_view help,
                          double least, double most) {
  return {.name = name, .default_value = by_default, .help = help, .least = least, .most = most};
}

std::vector<MethodOption> ensemble_options() {
  return {
      count_option("members", 5, "models that are trained apart", 1, 64),
      {.name = "assign",
       .default_value = std::string("seed"),
       .help = "what makes the members differ: every client trains all of them, or one",
       .choices = {"seed", "cluster"}},
      count_option("member", -1, "of assign = cluster: this client's; -1: as its name hashes", -1,
                   63),
      {.name = "of",
       .default_value = std::string("lora"),
       .help = "method of a member; its options stand beside",
       .choices = names_of(member_methods())},
      count_option("start_round", 1, "round in which the members part; one shared chain before", 1,
                   1e9),
      {.name = "kl",
       .default_value = 0.0,
       .help = "weight of the divergence between the model's and the pre-trained outputs",
       .least = 0.0,
       .most = 1e6},
      {.name = "kl_direction",
       .default_value = std::string("model-base"),
       .help = "KL(model || base) or KL(base || model)",
       .choices = {"model-base", "base-model"}},
      {.name = "b_decay",
       .default_value = 0.0,
       .help = "decoupled weight decay of B alone, before the learning rate",
       .least = 0.0,
       .most = 1e6},
      {.name = "stop_share",
       .default_value = 0.0,
       .help = "share of a client's examples that early stopping looks at; 0: off",
       .least = 0.0,
       .most = 0.5},
      count_option("stop_every", 10, "steps between two looks of early stopping", 1, 1e9),
      count_option("stop_patience", 3, "looks without a better loss before early stopping", 1, 1e9),
      count_option("max_rank", 0, "most columns that a member accumulates; 0: no bound", 0, 1e6)};
}

}  // namespace

std::vector<std::int64_t> EnsembleSettings::members_of(std::uint64_t seed,
                                                       std::string_view client) const {
  if (assign == Assign::Cluster) {
    const auto count = static_cast<std::uint64_t>(members);
    const std::uint64_t hash = core::stream_seed({seed, 0, client, "ensemble-cluster"});
    return {member >= 0 ? member : static_cast<std::int64_t>(hash % count)};
  }
  std::vector<std::int64_t> all(static_cast<std::size_t>(members));
  std::iota(all.begin(), all.end(), std::int64_t{0});
  return all;
}

std::optional<EnsembleSettings> ensemble_settings(const AdapterSpec& spec) {
  if (spec.method != kLoraEnsemble) return std::nullopt;
  const AdapterSpec complete = completed(lora_ensemble_method(), spec);
  return EnsembleSettings{.members = integer(complete, "members"),
                          .assign = text(complete, "assign") == "cluster"
                                        ? EnsembleSettings::Assign::Cluster
                                        : EnsembleSettings::Assign::Seed,
                          .member = integer(complete, "member"),
                          .start_round = integer(complete, "start_round"),
                          .max_rank = integer(complete, "max_rank"),
                          .stop_share = number(complete, "stop_share"),
                          .stop_every = integer(complete, "stop_every"),
                          .stop_patience = integer(complete, "stop_patience")};
}

std::uint64_t member_seed(std::uint64_t seed, std::int64_t member) {
  if (member == 0) return seed;
  return core::stream_seed({seed, static_cast<std::uint64_t>(member), "", "ensemble-member"});
}

std::unique_ptr<Optimizer> decay_b(std::unique_ptr<Optimizer> inner,
                                   const std::vector<Parameter>& parameters, double decay) {
  core::require(decay > 0.0, "decay_b: the decay must be > 0");
  std::vector<Parameter> b;
  for (const Parameter& parameter : parameters) {
    if (parameter.name.ends_with(".lora_B")) b.push_back(parameter);
  }
  if (b.empty()) {
    throw core::ConfigError(
        "training.options.b_decay: the method of the members trains no B; set b_decay = 0");
  }
  return std::make_unique<BDecay>(std::move(inner), std::move(b), decay);
}

Method lora_ensemble_method() {
  return {.name = kLoraEnsemble,
          .summary =
              "members trained apart on one base, their probabilities averaged (Wang, Aitchison & "
              "Rudolph, 2023, arXiv:2310.00035)",
          .options = ensemble_options(),
          .make = make_member,
          .export_rank = member_export_rank,
          .inner = member_methods};
}

}  // namespace drystone::adapters
