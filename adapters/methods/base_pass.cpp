#include "adapters/methods/base_pass.h"

#include <utility>

#include <ATen/core/grad_mode.h>

#include "core/seed.h"

namespace drystone::adapters {

namespace {

using Handles = std::map<std::string, at::Tensor>;

/// The model on other weights and without adapters, for a while.
class Swapped {
 public:
  Swapped(models::Model& model, const Handles& weights, const Handles& head)
      : model_(model), weights_(weights), head_(head) {
    swap();
  }
  ~Swapped() { swap(); }
  Swapped(const Swapped&) = delete;
  Swapped& operator=(const Swapped&) = delete;

 private:
  void swap() {
    for (models::Linear* linear : model_.linears()) {
      at::Tensor& weight = weights_.at(linear->name);
      if (!weight.is_same(linear->weight)) std::swap(linear->rounded, rounded_[linear->name]);
      std::swap(linear->weight, weight);
      std::swap(linear->side, sides_[linear->name]);
      std::swap(linear->adapter, adapters_[linear->name]);
    }
    for (const auto& [name, tensor] : model_.dense()) std::swap(*tensor, head_.at(name));
  }

  models::Model& model_;
  Handles weights_;
  Handles rounded_;  // none at first: of another weight
  Handles head_;
  std::map<std::string, tensors::Factors> sides_;           // none at first
  std::map<std::string, models::LinearAdapter*> adapters_;  // none at first
};

}  // namespace

BasePass::BasePass(models::Model& model, const AdapterStart& start) {
  for (const models::Linear* linear : model.linears()) {
    const at::Tensor& weight = start.pristine_weight(*linear);
    weights_[linear->name] = linear->quantized ? weight : weight.to(linear->weight.scalar_type());
  }
  for (const auto& [name, tensor] : model.dense()) head_[name] = tensor->detach();
}

at::Tensor BasePass::logits(const LossContext& context) {
  const at::NoGradGuard no_grad;
  at::Tensor logits;
  {
    const Swapped as_base(context.model, weights_, head_);
    if (context.dropout_seed) context.model.set_training(false, 0);
    logits = context.model.logits(context.batch);
  }
  if (context.dropout_seed) {  // the student's next micro-batch draws from a stream of its own
    context.model.set_training(
        true, core::stream_seed({*context.dropout_seed, micro_batch_, "", "after-teacher"}));
  }
  ++micro_batch_;
  ++num_passes_;
  return logits;
}

}  // namespace drystone::adapters
