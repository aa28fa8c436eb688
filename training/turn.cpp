#include "training/turn.h"

#include "core/check.h"

namespace drystone::training {

Turn::Turn(models::Model& model, const GlobalState& state) : model_(model), state_(state) {
  for (const models::Linear* linear : model.linears()) {
    core::require(linear->adapter == nullptr, "train: " + linear->name + " has an adapter");
  }
  state.install_for_training(model);
}

Turn::~Turn() {
  model_.set_training(false, 0);
  model_.set_checkpointing(false);
  model_.set_bfloat16(false);
  for (const auto& [name, tensor] : model_.dense()) *tensor = state_.dense().at(name);
}

}  // namespace drystone::training
