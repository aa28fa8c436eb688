#include "adapters/registry.h"

#include <algorithm>

#include "adapters/methods/lora_ensemble.h"
#include "adapters/methods/table.h"
#include "adapters/posterior/laplace_lora.h"
#include "adapters/specification.h"
#include "core/choices.h"
#include "core/error.h"
#include "core/text.h"

namespace drystone::adapters {

namespace {

std::vector<Method> all_methods() {
  const std::span<const Method> plain = plain_methods();
  std::vector<Method> all(plain.begin(), plain.end());
  all.push_back(laplace_lora_method());
  all.push_back(lora_ensemble_method());
  return all;
}

}  // namespace

std::span<const Method> methods() {
  static const std::vector<Method> all = all_methods();
  return all;
}

const Method& find_method(std::string_view name) {
  const auto found = std::ranges::find(methods(), name, &Method::name);
  if (found != methods().end()) return *found;
  std::vector<std::string> names;
  for (const Method& method : methods()) names.emplace_back(method.name);
  throw core::ConfigError("training.method: " + core::quote(name) + " is not available; " +
                          core::did_you_mean(name, names) +
                          "methods that work: " + core::join(names));
}

AdapterSpec completed(const AdapterSpec& spec) { return completed(find_method(spec.method), spec); }

ResolvedTraining resolve(const core::TrainingConfig& training) {
  const Method& method = find_method(training.method);
  return {.config = training, .method = &method, .spec = completed(method, spec_of(training))};
}

void validate(const AdapterSpec& spec) {
  export_rank(spec);  // methods check there what a table of ranges cannot say
}

std::int64_t export_rank(const AdapterSpec& spec) {
  return export_rank(find_method(spec.method), spec);
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
  return method.statistics(model, completed(method, spec));
}

std::unique_ptr<Adapter> make_adapter(const ResolvedTraining& training, models::Model& model,
                                      const AdapterStart& start) {
  return make_completed(*training.method, model, training.spec, start);
}

std::unique_ptr<Adapter> make_adapter(models::Model& model, const AdapterSpec& spec,
                                      const AdapterStart& start) {
  return make_adapter(find_method(spec.method), model, spec, start);
}

}  // namespace drystone::adapters
