#pragma once
// Steps on named parameters: AdamW (Loshchilov & Hutter, 2019), clipping, learning-rate schedules.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace drystone::adapters {

/// A leaf that the optimiser moves; handles are shared with whoever uses the tensor.
struct Parameter {
  std::string name;
  at::Tensor tensor;          ///< fp32, requires grad
  double decay_factor = 1.0;  ///< multiplies the weight decay (0 for biases)
  double rate_factor = 1.0;   ///< multiplies the learning rate
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  /// One step from the gradients as they are; a parameter without a gradient is left out.
  virtual void step(double learning_rate) = 0;
  /// Frees all gradients.
  virtual void zero_grad() = 0;
  /// Everything that a bit-exact resume needs, by "<parameter>.<what>".
  virtual std::map<std::string, at::Tensor> state() const = 0;
  /// @throws core::InvalidArgument  names or shapes differ
  virtual void load_state(const std::map<std::string, at::Tensor>& state) = 0;
};

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
};

/// torch.optim.AdamW's arithmetic, operation by operation (amsgrad and maximize off). On a GPU an
/// operation is one kernel for all parameters that have taken the same number of steps.
class AdamW final : public Optimizer {
 public:
  AdamW(std::vector<Parameter> parameters, const AdamWOptions& options);
  void step(double learning_rate) override;
  void zero_grad() override;
  std::map<std::string, at::Tensor> state() const override;
  void load_state(const std::map<std::string, at::Tensor>& state) override;

 private:
  struct Moments {
    at::Tensor mean;
    at::Tensor square;
    std::int64_t steps = 0;
  };
  std::vector<Parameter> parameters_;
  std::vector<Moments> moments_;  ///< made at a parameter's first step
  AdamWOptions options_;
};

/// Scales the gradients so that their global 2-norm is at most `max_norm`, as
/// torch.nn.utils.clip_grad_norm_ does. Parameters without a gradient are left out.
/// @returns  the norm before scaling
at::Tensor clip_gradients_(const std::vector<Parameter>& parameters, double max_norm);

enum class Schedule { Constant, Linear, Cosine };

/// @throws core::ConfigError  not constant, linear or cosine
Schedule parse_schedule(std::string_view name);

/// The rate factor of transformers with one more warm-up step, without its first step of rate 0:
/// ⌈warmup · total⌉ steps of warm-up, never the last of all. @param step  0-based, < total
double schedule_factor(Schedule schedule, std::int64_t step, std::int64_t total, double warmup);

}  // namespace drystone::adapters
