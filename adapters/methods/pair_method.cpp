#include "adapters/methods/pair_method.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <utility>

#include "adapters/methods/ba_lora.h"
#include "adapters/methods/clora.h"
#include "adapters/methods/flat_lora.h"
#include "adapters/methods/lora.h"
#include "adapters/methods/pissa.h"
#include "adapters/side_path.h"
#include "adapters/specification.h"
#include "core/error.h"
#include "core/text.h"

namespace drystone::adapters {

namespace {

struct Parameterisation {
  Method method;
  double (*scale)(const AdapterSpec&);
};

const std::array<Parameterisation, 6>& parameterisations() {
  static const std::array<Parameterisation, 6> known = {{
      {lora_method(), lora_scale},
      {rslora_method(), rslora_scale},
      {pissa_method(), lora_scale},
      {ba_lora_method(), lora_scale},
      {clora_method(), lora_scale},
      {flat_lora_method(), lora_scale},
  }};
  return known;
}

/// Why the other methods of the table do not train a plain pair.
std::string reason(const std::string& method) {
  if (method == "kasa" || method == "bilora") return "pseudo singular values stand between A and B";
  if (method == "sora") return "gates stand between A and B";
  if (method == "sbora-fa" || method == "sbora-fb" || method == "rac-lora") {
    return "it trains one factor and keeps the other";
  }
  return "it is no parameterisation of plain factors A and B";
}

std::string known_names() {
  std::vector<std::string> names;
  for (const auto& [method, scale] : parameterisations()) names.emplace_back(method.name);
  return core::join(names);
}

const Parameterisation& chosen(const AdapterSpec& spec) {
  const std::string& name = text(spec, "parameterisation");
  for (const Parameterisation& known : parameterisations()) {
    if (known.method.name == name) return known;
  }
  throw core::ConfigError("training.options.parameterisation: " + core::quote(name) + ": " +
                          reason(name) + "; use one of: " + known_names());
}

/// Options of the parameterisations, each once: where two use one name the ranges are joined, and
/// the smaller default stands for "as that parameterisation has it".
std::vector<MethodOption> joined_options() {
  std::vector<MethodOption> joined;
  for (const auto& [method, scale] : parameterisations()) {
    for (const MethodOption& option : method.options) {
      const auto same = std::find_if(joined.begin(), joined.end(), [&](const MethodOption& other) {
        return other.name == option.name;
      });
      if (same == joined.end()) {
        joined.push_back(option);
      } else {
        same->default_value = std::min(same->default_value, option.default_value);
        same->least = std::min(same->least, option.least);
        same->most = std::max(same->most, option.most);
      }
    }
  }
  return joined;
}

bool has_option(const Method& method, std::string_view name) {
  return std::any_of(method.options.begin(), method.options.end(),
                     [&](const MethodOption& option) { return option.name == name; });
}

/// The parameterisation's own specification. @throws core::ConfigError  another one's option
AdapterSpec inner_spec(const AdapterSpec& spec) {
  const Method& method = chosen(spec).method;
  AdapterSpec inner = spec;
  inner.method = method.name;
  inner.options.clear();
  for (const MethodOption& option : joined_options()) {
    const std::string name(option.name);
    const core::OptionValue& value = spec.options.at(name);
    if (value == option.default_value) continue;
    if (!has_option(method, name)) {
      throw core::ConfigError("training.options." + name + ": parameterisation " +
                              core::quote(method.name) + " has no such option; remove it");
    }
    inner.options[name] = value;
  }
  return inner;
}

}  // namespace

std::vector<MethodOption> pair_options(std::vector<MethodOption> own) {
  own.push_back(
      {.name = "parameterisation",
       .default_value = std::string("lora"),
       .help = "what trains the factors: lora, rslora, pissa, ba-lora, clora or flat-lora"});
  for (MethodOption& option : joined_options()) own.push_back(std::move(option));
  return own;
}

std::int64_t pair_export_rank(const AdapterSpec& spec) {
  return export_rank(chosen(spec).method, inner_spec(spec));
}

double pair_scale(const AdapterSpec& spec) { return chosen(spec).scale(spec); }

PairAdapter::PairAdapter(models::Model& model, const AdapterSpec& spec, const AdapterStart& start)
    : inner_(make_adapter(chosen(spec).method, model, inner_spec(spec), start)) {}

double warmup_of_a(const Step& step, std::int64_t steps) {
  if (step.index >= steps) return 1.0;
  return static_cast<double>(step.index) / static_cast<double>(steps);
}

double remaining(const Step& step) {
  const auto total = static_cast<double>(std::max<std::int64_t>(step.total, 1));
  return std::max(0.0, 1.0 - static_cast<double>(step.index) / total);
}

}  // namespace drystone::adapters
