#include "adapters/specification.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/text.h"

namespace drystone::adapters {

namespace {

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

const MethodOption& find_option(const Method& method, const std::vector<MethodOption>& options,
                                const std::string& name) {
  for (const MethodOption& option : options) {
    if (option.name == name) return option;
  }
  const std::string where =
      "training.options." + name + ": method \"" + std::string(method.name) + "\" ";
  if (options.empty()) throw core::ConfigError(where + "has no options; remove it");
  std::vector<std::string> names;
  for (const MethodOption& option : options) names.emplace_back(option.name);
  throw core::ConfigError(where + "has no such option; did you mean " +
                          core::quote(core::nearest(name, names)) + "?");
}

/// The method's own options, and those of the method that its option "of" names.
std::vector<MethodOption> options_of(const Method& method, const core::Options& given) {
  std::vector<MethodOption> options = method.options;
  if (method.inner == nullptr) return options;
  const auto chosen = given.find("of");
  const core::OptionValue inner =
      chosen == given.end() ? find_option(method, options, "of").default_value : chosen->second;
  if (!std::holds_alternative<std::string>(inner)) return options;  // refused as a wrong type
  const std::span<const Method> known = method.inner();
  const auto found = std::ranges::find(known, std::get<std::string>(inner), &Method::name);
  if (found == known.end()) return options;  // refused as no choice
  options.insert(options.end(), found->options.begin(), found->options.end());
  return options;
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

}  // namespace

AdapterSpec completed(const Method& method, AdapterSpec spec) {
  check_numbers(spec);
  spec.options = complete_options(method, spec.options);
  return spec;
}

std::int64_t export_rank(const Method& method, const AdapterSpec& spec) {
  const AdapterSpec complete = completed(method, spec);
  return method.export_rank == nullptr ? complete.rank : method.export_rank(complete);
}

std::unique_ptr<Adapter> make_completed(const Method& method, models::Model& model,
                                        const AdapterSpec& complete, const AdapterStart& start) {
  if (start.factors != nullptr && !method.continues) {
    throw core::ConfigError("training.method: " + core::quote(method.name) +
                            " cannot continue from averaged factors; use a rule that adds (" +
                            "aggregation.rule = \"flora\")");
  }
  return method.make(model, complete, start);
}

std::unique_ptr<Adapter> make_adapter(const Method& method, models::Model& model,
                                      const AdapterSpec& spec, const AdapterStart& start) {
  return make_completed(method, model, completed(method, spec), start);
}

}  // namespace drystone::adapters
