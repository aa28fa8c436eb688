#pragma once
// Internal to aggregation: the accepted updates of a round as mapped files.

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "aggregation/layout.h"
#include "aggregation/rule.h"
#include "aggregation/stacking.h"
#include "aggregation/weighting.h"
#include "tensors/factor_set_io.h"

namespace drystone::aggregation {

/// One file mapping an update (Linux allows 65,530 a process by default, vm.max_map_count).
/// One thread at a time.
class UpdateSet {
 public:
  /// Sorts by client name, so that sums run in one order whatever the order of arrival.
  /// @throws core::InvalidArgument  no update, a client twice, a module of different sizes,
  ///                                different dense parts
  /// @throws core::IoError          a payload cannot be read
  UpdateSet(std::vector<UpdateFile> updates, const RoundWeights& weights);

  /// By client, what its weight was multiplied by, where that is less than 1.
  const std::map<std::string, double>& lowered() const { return lowered_; }

  /// Every module that one of the clients adapts.
  const std::map<std::string, ModuleLayout>& modules() const { return modules_; }
  /// The model's own parts are in every update but those of members alone; statistics and members'
  /// parts may be in some.
  const std::map<std::string, std::vector<int64_t>>& dense() const { return dense_; }
  /// Σ of the ranks of one module over the clients that have a share.
  int64_t stack_rank(const std::string& module) const;

  /// One module's factors as views of the files, with the clients' shares (of a member's module:
  /// among the clients that trained the member; of the shared base: among all but those that
  /// trained members alone); rank 0, the update that changes nothing, for a client that does not
  /// adapt it.
  std::vector<WeightedFactors> module(const std::string& name) const;
  /// A part that is absent counts as zero.
  at::Tensor mean_dense(const std::string& name) const;
  /// Gives the files' pages back after each module, where they are many.
  void forget_pages() const;
  const std::string& client(std::size_t index) const { return updates_[index].client; }

 private:
  void lower_weights(double max_norm);
  void collect_modules();
  void collect_scopes();
  void collect_dense();
  /// Of the base that all share and of a member: among those that trained it.
  std::vector<double> shares(std::string_view scope) const;

  std::vector<UpdateFile> updates_;
  std::vector<tensors::FactorSetFile> files_;
  std::uint64_t num_bytes_ = 0;  ///< of all files
  std::vector<double> shares_;
  std::map<std::string, double> lowered_;
  std::vector<std::set<std::string, std::less<>>> scopes_;  ///< of each update's parts
  std::map<std::string, ModuleLayout> modules_;
  std::map<std::string, std::vector<int64_t>> dense_;
};

}  // namespace drystone::aggregation
