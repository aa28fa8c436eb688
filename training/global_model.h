#pragma once
// The client's view of the federation's model: the pristine base and what was published on top.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <ATen/core/Tensor.h>

#include "core/publish_mode.h"
#include "models/model.h"
#include "tensors/factors.h"
#include "tensors/pruning.h"
#include "training/member_state.h"

namespace drystone::training {

/// One version of the global model. Immutable: `apply` makes a new snapshot that shares every
/// tensor which the published factors do not touch, so snapshots are cheap to keep and any number
/// of model instances and threads may read one at the same time. The pristine weights are never
/// written to.
///
/// Add (stacking):      W_v = W_{v−1} + B·A, folded in version order into a fresh fp32 copy. The
///                      order is part of the definition: the bits do not depend on how a client
///                      caught up.
/// Replace (averaging): (B, A) take the place of every module published before. They are kept
///                      beside W: adapters continue from them, and W is the pristine base.
/// Quantised weights:   never folded into. What was added stands beside them, as factors of the
///                      fewest columns that hold the sum: W is the client's own base plus exactly
///                      what was published.
/// Dense parts:         version 0 sets them, later versions add their differences, in fp32.
/// Statistics:          added, in fp32; what was not published counts as zero.
/// Pruning:             where version 0 holds a plan, each version's masks follow from the scores
///                      among the statistics (tensors/pruning.h): the same for everybody.
/// Members:             what belongs to a member of an ensemble ("member-<k>/…", Add mode) never
///                      goes into W: training/member_state.h. `member` gives one of them as a
///                      state.
class GlobalState {
 public:
  /// The state before version 0: the model's own weights and dense parts (handles are shared).
  /// @param model  without adapters; its linears and dense parts define what can be published
  /// @param max_member_rank  see MemberStates; the same for all parties of a federation
  static std::shared_ptr<const GlobalState> pristine(models::Model& model,
                                                     std::int64_t max_member_rank = 0);

  /// @param version    must be the next one: 0 on a pristine state, else version() + 1
  /// @param published  fp32; modules and shapes as the model's
  /// @throws core::InvalidArgument  a version out of order, an unknown module or dense part, or a
  ///                                shape that differs
  /// Costs one [out, in] copy and one product for each touched module in Add mode, nothing else.
  std::shared_ptr<const GlobalState> apply(std::uint64_t version, core::PublishMode mode,
                                           const tensors::FactorSet& published) const;

  /// The members that published versions hold; empty: there is one model, W.
  const MemberStates& members() const { return members_; }
  /// A member as a state without members: its sum folded into copies of the weights that it
  /// touches, its head. Costs one [out, in] matrix a module while it lives. A member that nothing
  /// was published for is the shared base.
  std::shared_ptr<const GlobalState> member(std::int64_t number) const;

  /// −1 before version 0.
  std::int64_t version() const { return version_; }
  bool has_start_factors() const { return !start_.empty(); }
  /// Replace mode: what adapters continue from; empty otherwise.
  const std::map<std::string, tensors::Factors>& start_factors() const { return start_; }
  /// The model's own weights by module, whatever was published since.
  const std::map<std::string, at::Tensor>& pristine_weights() const { return pristine_; }
  /// What methods collected beside the model, by name without "statistics/": sums since version 0.
  const std::map<std::string, at::Tensor>& statistics() const { return statistics_; }
  /// Which heads and channels are kept, by block; empty: nothing is pruned.
  const tensors::KeptGroups& kept_groups() const { return kept_; }
  /// Current values by checkpoint name.
  const std::map<std::string, at::Tensor>& dense() const { return dense_; }
  /// W that training starts from: [out, in], not to be written to; undefined if quantised.
  /// @throws core::InvalidArgument
  const at::Tensor& weight(const std::string& module) const;

  /// A published part that does not stay within float32, if there is one: folded weights, dense
  /// parts, and products of factors by the bound that their norms give.
  std::optional<std::string> not_finite() const;

  /// Sets the model's weights, masks and dense parts to what training starts from (start factors
  /// left out). The handles are shared: replace a dense handle before changing its numbers.
  void install_for_training(models::Model& model) const;
  /// Sets them to the whole published function: W + B·A where start factors exist.
  void install_for_evaluation(models::Model& model) const;

 private:
  GlobalState() = default;
  void require_known(const tensors::FactorSet& published) const;
  void add_members(const std::map<std::int64_t, tensors::FactorSet>& members);
  void add_modules(const std::map<std::string, tensors::Factors>& modules);
  void set_or_add_dense(const std::map<std::string, at::Tensor>& dense);
  void install(models::Model& model, bool with_start_factors) const;

  std::int64_t version_ = -1;
  struct Shape {
    std::int64_t out = 0;
    std::int64_t in = 0;
  };

  std::map<std::string, Shape> shapes_;            ///< of every linear layer
  std::map<std::string, at::Tensor> pristine_;     ///< module → the model's own handle
  std::map<std::string, at::Tensor> weights_;      ///< module → the same, or a folded fp32 copy
  std::map<std::string, tensors::Factors> sides_;  ///< quantised modules: what was added
  std::map<std::string, tensors::Factors> start_;
  std::map<std::string, at::Tensor> dense_;
  std::map<std::string, at::Tensor> statistics_;
  tensors::KeptGroups kept_;
  MemberStates members_;
};

using GlobalStatePtr = std::shared_ptr<const GlobalState>;

}  // namespace drystone::training
