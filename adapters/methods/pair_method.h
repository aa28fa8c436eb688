#pragma once
// Methods that are an optimiser of pairs: any parameterisation that trains plain factors (A, B),
// with another way to step.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "adapters/method.h"
#include "adapters/methods/factor_pairs.h"

namespace drystone::adapters {

/// Adds the options "parameterisation" and those of every parameterisation to an optimiser's own.
std::vector<MethodOption> pair_options(std::vector<MethodOption> own);

/// What the chosen parameterisation exports; checks what the ranges of options cannot say.
/// @throws core::ConfigError  a parameterisation that does not train a plain pair, with the reason;
///                            an option of one that is not the chosen one
std::int64_t pair_export_rank(const AdapterSpec& spec);

/// The factor s of ΔW = s·B·A in the chosen parameterisation.
double pair_scale(const AdapterSpec& spec);

/// The chosen parameterisation with everything that it does, but for the optimiser.
class PairAdapter : public Adapter {
 public:
  /// @throws core::ConfigError  as pair_export_rank and the parameterisation
  PairAdapter(models::Model& model, const AdapterSpec& spec, const AdapterStart& start);

  void attach() override { inner_->attach(); }
  void detach() override { inner_->detach(); }
  std::vector<Parameter> parameters() const override { return inner_->parameters(); }
  void before_step(const Step& step) override {
    step_ = step;
    inner_->before_step(step);
  }
  void on_gradients(const Step& step) override { inner_->on_gradients(step); }
  void after_step(const Step& step) override { inner_->after_step(step); }
  at::Tensor extra_loss(const LossContext& context) override { return inner_->extra_loss(context); }
  bool needs_logits() const override { return inner_->needs_logits(); }
  std::int64_t own_passes() const override { return inner_->own_passes(); }
  std::vector<SidePath*> side_paths() override { return inner_->side_paths(); }
  std::map<std::string, tensors::Factors> export_delta() const override {
    return inner_->export_delta();
  }
  TensorMap statistics() const override { return inner_->statistics(); }
  TensorMap state() const override { return inner_->state(); }
  void load_state(const TensorMap& state) override { inner_->load_state(state); }

 protected:
  /// The step under way; the address stays.
  const Step& current_step() const { return step_; }

 private:
  std::unique_ptr<Adapter> inner_;
  Step step_;
};

/// A's step is multiplied by min(1, t / steps) at the 0-based step t of a round, B's is not. From
/// B = 0 a step that is invariant to the factorisation moves A by a share of its size that does not
/// depend on the learning rate, as it divides by B, which has moved once; growing in step with B it
/// stays small.
double warmup_of_a(const Step& step, std::int64_t steps);

/// The damping's course over a round: 1 at its first step, falling in a line towards 0.
double remaining(const Step& step);

}  // namespace drystone::adapters
