#pragma once
// The pre-trained model's outputs on a training batch: what consistency terms pull towards.

#include <cstdint>
#include <map>
#include <string>

#include <ATen/core/Tensor.h>

#include "adapters/method.h"

namespace drystone::adapters {

/// Runs a model that is being adapted as it was before any version was published: pristine weights,
/// no adapters, no dropout. The head, which has no pre-trained form, is the one that it was made
/// with. Keeps handles alone. One thread at a time.
class BasePass {
 public:
  /// @param model  with its weights and head as training starts from them; outlives the object
  /// @param start  its pristine weights are used during the call alone
  BasePass(models::Model& model, const AdapterStart& start);

  /// Before the first micro-batch of a step.
  void start_step() { micro_batch_ = 0; }
  /// Logits on the context's batch, without autograd record. The model is as it was afterwards, its
  /// dropout continuing with a stream of its own for each micro-batch.
  at::Tensor logits(const LossContext& context);
  /// Forward passes so far.
  std::int64_t num_passes() const { return num_passes_; }

 private:
  std::map<std::string, at::Tensor> weights_;
  std::map<std::string, at::Tensor> head_;
  std::uint64_t micro_batch_ = 0;
  std::int64_t num_passes_ = 0;
};

}  // namespace drystone::adapters
