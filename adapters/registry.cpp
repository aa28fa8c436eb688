#include "adapters/registry.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "adapters/lora.h"
#include "core/error.h"
#include "core/text.h"

namespace drystone::adapters {

namespace {

/// The one table: a new method adds its line here, in the contract's order.
const std::array kMethods = {
    Method{.name = "lora",
           .summary = "low-rank adaptation, scale alpha / rank (Hu et al., 2021, arXiv:2106.09685)",
           .options = {},
           .make = make_lora},
    Method{.name = "rslora",
           .summary = "LoRA with scale alpha / sqrt(rank) (Kalajdzievski, 2023, arXiv:2312.03732)",
           .options = {},
           .make = make_rslora},
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

const MethodOption& find_option(const Method& method, const std::string& name) {
  for (const MethodOption& option : method.options) {
    if (option.name == name) return option;
  }
  const std::string where =
      "training.options." + name + ": method \"" + std::string(method.name) + "\" ";
  if (method.options.empty()) throw core::ConfigError(where + "has no options; remove it");
  throw core::ConfigError(where + "has no such option; did you mean " +
                          core::quote(core::nearest(name, names_of(method.options))) + "?");
}

/// The given options, checked, with the defaults of those that are missing.
core::Options complete_options(const Method& method, const core::Options& given) {
  core::Options complete;
  for (const MethodOption& option : method.options) {
    complete.emplace(option.name, option.default_value);
  }
  for (const auto& [name, value] : given) {
    const MethodOption& option = find_option(method, name);
    if (!fits(value, option.default_value)) {
      throw core::ConfigError("training.options." + name + ": wrong type; " +
                              std::string(option.help));
    }
    const auto* integer = std::get_if<std::int64_t>(&value);
    const bool widen = integer != nullptr && std::holds_alternative<double>(option.default_value);
    complete[name] = widen ? core::OptionValue(static_cast<double>(*integer)) : value;
  }
  return complete;
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

void validate(const AdapterSpec& spec) {
  const Method& method = find_method(spec.method);
  check_numbers(spec);
  complete_options(method, spec.options);
}

std::unique_ptr<Adapter> make_adapter(models::Model& model, const AdapterSpec& spec,
                                      const AdapterStart& start) {
  return make_adapter(find_method(spec.method), model, spec, start);
}

std::unique_ptr<Adapter> make_adapter(const Method& method, models::Model& model,
                                      const AdapterSpec& spec, const AdapterStart& start) {
  check_numbers(spec);
  AdapterSpec complete = spec;
  complete.options = complete_options(method, spec.options);
  return method.make(model, complete, start);
}

}  // namespace drystone::adapters
