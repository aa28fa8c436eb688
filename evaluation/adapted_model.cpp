#include "evaluation/adapted_model.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "core/error.h"
#include "evaluation/companion_files.h"
#include "evaluation/pruned_checkpoint.h"
#include "models/adapted_base.h"
#include "models/weights.h"
#include "tensors/peft_io.h"
#include "training/global_model.h"

namespace drystone::evaluation {

namespace fs = std::filesystem;

namespace {

/// Sets the model's linear layers to the base's with the factors added, and its masks to those
/// beside them.
void adapt(models::Model& model, const tensors::FactorSet& adapter, const fs::path& folder) {
  const training::GlobalStatePtr pristine = training::GlobalState::pristine(model);
  const tensors::FactorSet published{.modules = adapter.modules, .dense = pristine->dense()};
  try {
    pristine->apply(0, core::PublishMode::Add, published)->install_for_evaluation(model);
  } catch (const core::InvalidArgument& error) {
    throw core::ConfigError(folder.string() + ": does not fit the model: " + error.what());
  }
  apply_masks_beside(model, folder);
}

/// Refuses a checkpoint whose own head is no sequence classifier's with one class an example.
void check_head_kind(const models::Base& base) {
  if (base.config.text_or("problem_type", "") == "multi_label_classification") {
    base.config.fail("problem_type",
                     "\"multi_label_classification\" is not supported: a text has one class here");
  }
  const auto architectures = base.config.texts("architectures");
  const bool is_right = std::ranges::any_of(architectures, [](const std::string& name) {
    return name.ends_with("ForSequenceClassification");
  });
  const models::FamilyNames& names = *models::family_names(base.config.model_type());
  const bool has_head = base.weights.contains(std::string(names.head) + ".weight");
  if (is_right || architectures.empty() || !has_head) return;
  base.config.fail("architectures", architectures.front() +
                                        ": its head is not a sequence classifier's; name a "
                                        "checkpoint of one, or an adapter that brings a head");
}

}  // namespace

AdaptedModel load_adapted(const models::ModelSpec& spec, const fs::path& adapter,
                          const fs::path& head) {
  models::Base base = models::load_base(spec);
  const std::int64_t rows = base.config.size("vocab_size");
  const bool is_alone = adapter.empty() && !fs::exists(head / "adapter_config.json");
  tensors::FactorSet set = is_alone ? tensors::FactorSet{} : tensors::read_peft(head);
  const bool classifies = spec.task != models::Task::CausalLm;
  if (classifies && set.dense.empty()) check_head_kind(base);
  if (!is_alone) models::install_saved(base, spec.task, set, head);
  if (classifies) models::require_head(spec, base);
  AdaptedModel adapted{.model = models::build(spec, base),
                       .limits = models::input_limits(base.config),
                       .tokenizer = spec.folder};
  if (!adapter.empty()) adapt(*adapted.model, set, adapter);
  if (adapted.limits.tokens != rows && has_tokenizer(head)) adapted.tokenizer = head;
  return adapted;
}

}  // namespace drystone::evaluation
