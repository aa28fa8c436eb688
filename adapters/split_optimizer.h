#pragma once
// AdamW with settings of its own for some of the parameters, for methods that shrink, restart or
// withhold them.

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "adapters/optimizer.h"

namespace drystone::adapters {

/// Two AdamWs behind one face. `is_special` decides by the parameter's name.
class SplitAdamW : public Optimizer {
 public:
  using Choice = std::function<bool(std::string_view name)>;
  SplitAdamW(const std::vector<Parameter>& parameters, Choice is_special,
             const AdamWOptions& special, const AdamWOptions& others);

  void step(double learning_rate) override;
  void zero_grad() override;
  std::map<std::string, at::Tensor> state() const override;
  void load_state(const std::map<std::string, at::Tensor>& state) override;

  /// The special ones' moments are forgotten.
  void restart_special();

 protected:
  void step_special(double learning_rate) { special_.step(learning_rate); }
  void step_others(double learning_rate) { others_.step(learning_rate); }

 private:
  Choice is_special_;
  AdamWOptions special_options_;
  std::vector<Parameter> special_parameters_;
  AdamW special_;
  AdamW others_;
};

}  // namespace drystone::adapters
