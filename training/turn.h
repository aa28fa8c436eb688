#pragma once
// Who has the model.

#include "models/model.h"
#include "training/global_model.h"

namespace drystone::training {

/// The model on a state's weights, plain before and afterwards.
class Turn {
 public:
  /// Both outlive it. @throws core::InvalidArgument  the model has an adapter
  Turn(models::Model& model, const GlobalState& state);
  ~Turn();
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  models::Model& model_;
  const GlobalState& state_;
};

}  // namespace drystone::training
