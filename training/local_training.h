#pragma once
// One client's local training of one round, a step at a time.

#include <memory>

#include "adapters/adapter_group.h"
#include "training/gradient_passes.h"
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
  /// Whether its passes may be others' as well: the method keeps to side paths, and nothing draws
  /// masks, computes layers again, splits mini-batches or sets examples apart but the adapter.
  bool shares_passes() const;
  /// What it puts into the model of such a pass; borrowed.
  adapters::GroupMember member();
  /// A step of such passes, attached or not: its micro-batches, the method's own term of a loss
  /// (undefined: none), and once they have their gradients, the step.
  /// @throws TrainingFailed  from end_step: the loss is not finite
  const MicroBatches& begin_step();
  at::Tensor extra_loss(const models::Batch& batch);
  TrainProgress end_step(const Losses& losses);

  /// One optimiser step, while attached. @throws TrainingFailed  the loss is not finite
  TrainProgress step();
  /// What was learnt, attached or not. @throws TrainingFailed  it is not finite
  LocalResult finish();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace drystone::training
