#include "adapters/registry.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "adapters/methods/ba_lora.h"
#include "adapters/methods/bilora.h"
#include "adapters/methods/clora.h"
#include "adapters/methods/flat_lora.h"
#include "adapters/methods/kasa.h"
#include "adapters/methods/lora.h"
#include "adapters/methods/lora_ensemble.h"
#include "adapters/methods/lora_pro.h"
#include "adapters/methods/lora_prune.h"
#include "adapters/methods/lora_rite.h"
#include "adapters/methods/pissa.h"
#include "adapters/methods/rac_lora.h"
#include "adapters/methods/sbora.h"
#include "adapters/methods/sora.h"
#include "adapters/posterior/laplace_lora.h"
#include "core/error.h"
#include "core/text.h"

namespace drystone::adapters {

namespace {

/// The one table: a new method adds its line here, in the contract's order.
const std::array kMethods = {
    lora_method(),          rslora_method(),    pissa_method(),      ba_lora_method(),
    kasa_method(),          bilora_method(),    sbora_fa_method(),   sbora_fb_method(),
    sora_method(),          lora_pro_method(),  lora_rite_method(),  clora_method(),
    rac_lora_method(),      flat_lora_method(), lora_prune_method(), laplace_lora_method(),
    lora_ensemble_method(),
};

template <typename Items>
std::vector<std::string> names_of(const Items& items) {
  std::vector<std::string> names;
  for (const auto& item : items) names.emplace_back(item.name);
  return names;
}

void check_numbers(const AdapterSpec& spec) {
  if (spec.rank < 1) {
    throw core::ConfigError("training.rank: " + std::to_string(spec.rank) + " is not positive");
  }
  if (!(std::isfinite(spec.alpha) && spec.alpha > 0.0)) {
    throw core::ConfigError("training.alpha: " + core::format_double(spec.alpha) +
                            " is not a positive number");
  }
  if (!(spec.dropout >= 0.0 && spec.dropout < 1.0)) {
    throw core::ConfigError("training.dropout: " + core::format_double(spec.dropout) +
                            " is not in [0, 1)");
  }
}

bool fits(const core::OptionValue& value, const core::OptionValue& like) {
  if (value.index() == like.index()) return true;
  return std::holds_alternative<double>(like) && std::holds_alternative<std::int64_t>(value);
}

/// The method's own options, and those of the method that its option "of" names.
std::vector<MethodOption> options_of(const Method& method, const core::Options& given) {
  std::vector<MethodOption> options = method.options;
  const auto declared =
      std::find_if(options.begin(), options.end(),
                   [](const MethodOption& option) { return option.name == "of"; });
  if (declared == options.end()) return options;
  const auto chosen = given.find("of");
  const core::OptionValue& inner = chosen == given.end() ? declared->default_value : chosen->second;
  if (!std::holds_alternative<std::string>(inner)) return options;  // refused as a wrong type
  const auto found = std::find_if(kMethods.begin(), kMethods.end(), [&](const Method& other) {
    return other.name == std::get<std::string>(inner);
  });
  if (found == kMethods.end()) return options;  // refused as no choice
  options.insert(options.end(), found->options.begin(), found->options.end());
  return options;
}

const MethodOption& find_option(const Method& method, const std::vector<MethodOption>& options,
                                const std::string& name) {
  for (const MethodOption& option : options) {
    if (option.name == name) return option;
  }
  const std::string where =
      "training.options." + name + ": method \"" + std::string(method.name) + "\" ";
  if (options.empty()) throw core::ConfigError(where + "has no options; remove it");
  throw core::ConfigError(where + "has no such option; did you mean " +
                          core::quote(core::nearest(name, names_of(options))) + "?");
}

void check_range(const MethodOption& option, const core::OptionValue& value) {
  const std::string where = "training.options." + std::string(option.name) + ": ";
  if (const auto* word = std::get_if<std::string>(&value); word != nullptr) {
    if (option.choices.empty()) return;
    if (std::find(option.choices.begin(), option.choices.end(), *word) == option.choices.end()) {
      throw core::ConfigError(
          where + core::quote(*word) + " is unknown; use one of: " +
          core::join(std::vector<std::string>(option.choices.begin(), option.choices.end())));
    }
    return;
  }
  double number = 0.0;
  if (const auto* real = std::get_if<double>(&value); real != nullptr) number = *real;
  if (const auto* whole = std::get_if<std::int64_t>(&value); whole != nullptr) {
    number = static_cast<double>(*whole);
  }
  if (std::isfinite(number) && number >= option.least && number <= option.most) return;
  throw core::ConfigError(where + core::format_double(number) + " is not between " +
                          core::format_double(option.least) + " and " +
                          core::format_double(option.most) + "; " + std::string(option.help));
}

/// The given options, checked, with the defaults of those that are missing.
core::Options complete_options(const Method& method, const core::Options& given) {
  const std::vector<MethodOption> options = options_of(method, given);
  core::Options complete;
  for (const MethodOption& option : options) complete.emplace(option.name, option.default_value);
  for (const auto& [name, value] : given) {
    const MethodOption& option = find_option(method, options, name);
    if (!fits(value, option.default_value)) {
      throw core::ConfigError("training.options." + name + ": wrong type; " +
                              std::string(option.help));
    }
    const auto* integer = std::get_if<std::int64_t>(&value);
    const bool widen = integer != nullptr && std::holds_alternative<double>(option.default_value);
    complete[name] = widen ? core::OptionValue(static_cast<double>(*integer)) : value;
    check_range(option, complete[name]);
  }
  return complete;
}

AdapterSpec complete_spec(const Method& method, AdapterSpec spec) {
  check_numbers(spec);
  spec.options = complete_options(method, spec.options);
  return spec;
}

std::unique_ptr<Adapter> make_complete(const Method& method, models::Model& model,
                                       const AdapterSpec& complete, const AdapterStart& start) {
  if (start.factors != nullptr && !method.continues) {
    throw core::ConfigError("training.method: " + core::quote(method.name) +
                            " cannot continue from averaged factors; use a rule that adds (" +
                            "aggregation.rule = \"flora\")");
  }
  return method.make(model, complete, start);
}

}  // namespace

std::span<const Method> methods() { return kMethods; }

const Method& find_method(std::string_view name) {
  const auto found = std::find_if(kMethods.begin(), kMethods.end(),
                                  [&](const Method& method) { return method.name == name; });
  if (found != kMethods.end()) return *found;
  throw core::ConfigError(
      "training.method: " + core::quote(name) +
      " is not available; methods that work: " + core::join(names_of(kMethods)));
}

AdapterSpec completed(const AdapterSpec& spec) {
  return complete_spec(find_method(spec.method), spec);
}

ResolvedTraining resolve(const core::TrainingConfig& training) {
  const Method& method = find_method(training.method);
  return {.config = training, .method = &method, .spec = complete_spec(method, spec_of(training))};
}

void validate(const AdapterSpec& spec) {
  export_rank(spec);  // methods check there what a table of ranges cannot say
}

std::int64_t export_rank(const AdapterSpec& spec) {
  const Method& method = find_method(spec.method);
  const AdapterSpec complete = complete_spec(method, spec);
  return method.export_rank == nullptr ? complete.rank : method.export_rank(complete);
}

bool can_continue(const AdapterSpec& spec) {
  const Method& method = find_method(spec.method);
  const auto inner = spec.options.find("parameterisation");
  if (!method.continues || inner == spec.options.end()) return method.continues;
  return find_method(std::get<std::string>(inner->second)).continues;
}

std::map<std::string, std::vector<std::int64_t>> statistics_of(models::Model& model,
                                                               const AdapterSpec& spec) {
  const Method& method = find_method(spec.method);
  if (method.statistics == nullptr) return {};
  return method.statistics(model, complete_spec(method, spec));
}

std::unique_ptr<Adapter> make_adapter(const ResolvedTraining& training, models::Model& model,
                                      const AdapterStart& start) {
  return make_complete(*training.method, model, training.spec, start);
}

std::unique_ptr<Adapter> make_adapter(models::Model& model, const AdapterSpec& spec,
                                      const AdapterStart& start) {
  return make_adapter(find_method(spec.method), model, spec, start);
}

std::unique_ptr<Adapter> make_adapter(const Method& method, models::Model& model,
                                      const AdapterSpec& spec, const AdapterStart& start) {
  return make_complete(method, model, complete_spec(method, spec), start);
}

}  // namespace drystone::adapters
