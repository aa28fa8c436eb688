#pragma once
// The predictions of an ensemble's members on a batch, in one pass over the shared base.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "adapters/methods/member_linear.h"
#include "models/model.h"
#include "training/global_model.h"

namespace drystone::training {

/// A member beside a base: factors for some of its linears, and values in place of its head's.
struct PredictedMember {
  adapters::FactorMap modules;
  std::map<std::string, at::Tensor> dense;  ///< absolute values; what is missing is the base's
};

struct PredictorOptions {
  /// Every row once a member in one batch. Off, or where the model does not allow it (DeBERTa):
  /// members one after the other.
  bool batched = true;
  double dropout = 0.0;    ///< MC dropout: on the side paths' input, with new masks in every pass
  std::uint64_t seed = 0;  ///< of those masks
};

/// Occupies the model: its linears' adapter slots and its dense handles, until the destructor.
class MemberPredictor {
 public:
  /// @param model    plain, with the base's weights installed; outlives the object
  /// @throws core::InvalidArgument  no members, or one that does not fit the model
  MemberPredictor(models::Model& model, std::vector<PredictedMember> members,
                  const PredictorOptions& options = {});
  ~MemberPredictor();
  MemberPredictor(const MemberPredictor&) = delete;
  MemberPredictor& operator=(const MemberPredictor&) = delete;

  /// @return [members, …]: what Model::logits gives for each; no autograd record
  at::Tensor logits(const models::Batch& batch);
  std::int64_t num_members() const { return static_cast<std::int64_t>(members_.size()); }
  bool is_batched() const { return joint_ != nullptr; }

 private:
  using Dense = std::map<std::string, at::Tensor>;
  void install(const Dense& dense);
  at::Tensor joint_logits(const models::Batch& batch);

  models::Model& model_;
  std::vector<PredictedMember> members_;
  Dense shared_;  ///< the model's own handles
  std::unique_ptr<adapters::MemberAdapters> joint_;
  Dense joint_head_;
  std::vector<std::unique_ptr<adapters::MemberAdapters>> single_;
};

/// The members of a published state, each relative to its shared base.
std::vector<PredictedMember> members_of(const GlobalState& state);

/// Every row `times` times: the batch itself, again and again.
models::Batch repeated(const models::Batch& batch, std::int64_t times);

}  // namespace drystone::training
