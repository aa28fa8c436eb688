#include "adapters/split_optimizer.h"

#include <utility>

namespace drystone::adapters {

namespace {

std::vector<Parameter> select(const std::vector<Parameter>& all,
                              const SplitAdamW::Choice& is_special, bool special) {
  std::vector<Parameter> selected;
  for (const Parameter& parameter : all) {
    if (is_special(parameter.name) == special) selected.push_back(parameter);
  }
  return selected;
}

}  // namespace

SplitAdamW::SplitAdamW(const std::vector<Parameter>& parameters, Choice is_special,
                       const AdamWOptions& special, const AdamWOptions& others)
    : is_special_(std::move(is_special)),
      special_options_(special),
      special_parameters_(select(parameters, is_special_, true)),
      special_(special_parameters_, special),
      others_(select(parameters, is_special_, false), others) {}

void SplitAdamW::step(double learning_rate) {
  special_.step(learning_rate);
  others_.step(learning_rate);
}

void SplitAdamW::zero_grad() {
  special_.zero_grad();
  others_.zero_grad();
}

std::map<std::string, at::Tensor> SplitAdamW::state() const {
  std::map<std::string, at::Tensor> state = others_.state();
  state.merge(special_.state());
  return state;
}

void SplitAdamW::load_state(const std::map<std::string, at::Tensor>& state) {
  std::map<std::string, at::Tensor> special;
  std::map<std::string, at::Tensor> others;
  for (const auto& [name, tensor] : state) {
    const std::string parameter = name.substr(0, name.rfind('.'));  // without ".mean" and the like
    (is_special_(parameter) ? special : others)[name] = tensor;
  }
  others_.load_state(others);
  special_.load_state(special);
}

void SplitAdamW::restart_special() { special_ = AdamW(special_parameters_, special_options_); }

}  // namespace drystone::adapters
