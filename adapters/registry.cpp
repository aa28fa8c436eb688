#include "adapters/registry.h"

#include <algorithm>
#include <array>

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
#include "adapters/specification.h"
#include "core/choices.h"
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

}  // namespace

std::span<const Method> methods() { return kMethods; }

const Method& find_method(std::string_view name) {
  const auto found = std::find_if(kMethods.begin(), kMethods.end(),
                                  [&](const Method& method) { return method.name == name; });
  if (found != kMethods.end()) return *found;
  std::vector<std::string> names;
  for (const Method& method : kMethods) names.emplace_back(method.name);
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
