#pragma once
// One client's local training of one round, a step at a time.

#include <memory>

#include "training/local_result.h"
#include "training/round_task.h"

namespace drystone::training {

/// What it is made, stepped and finished with is all its own but for the model: several take turns
/// on one, whatever their ranks, methods and states, and end with the same bits as one after the
/// other. Made attached; its turn ends with `detach`, and the next one begins with `attach`.
class LocalTraining {
 public:
  /// Begins. @param site  outlives the training; its model is nobody else's turn
  /// @throws core::ConfigError  as train_locally
  LocalTraining(RoundTask task, const TrainingSite& site);
  /// Ends its turn.
  ~LocalTraining();
  LocalTraining(const LocalTraining&) = delete;
  LocalTraining& operator=(const LocalTraining&) = delete;

  /// Puts its state's weights, its adapter and its head into the model.
  /// Costs handles; copies of the weights only where the model rounds them (bfloat16).
  /// @throws core::InvalidArgument  the model has an adapter
  void attach();
  /// Leaves the model plain, on the state's weights and head.
  void detach();

  /// All steps are done, or early stopping has seen enough.
  bool is_over() const;
  /// One optimiser step, while attached. @throws TrainingFailed  the loss is not finite
  TrainProgress step();
  /// What was learnt, attached or not. @throws TrainingFailed  it is not finite
  LocalResult finish();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace drystone::training
