#pragma once
// The sum of all published versions, in a file: what the base, which is never changed, has to be
// joined with. Kept up to date version by version, one module in memory at a time.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "aggregation/module_sum.h"
#include "core/publish_mode.h"
#include "tensors/pruning.h"
#include "tensors/safetensors.h"

namespace drystone::aggregation {

/// A sum's file (safetensors, float64, so that hundreds of rounds do not add up their rounding).
class PublishedSum {
 public:
  /// @throws core::IoError  unreadable, or no such file
  explicit PublishedSum(const std::filesystem::path& file);

  std::uint64_t version() const { return version_; }
  /// The chain's head of that version, as it was given.
  const std::string& head() const { return head_; }
  /// The largest share of a member's sum that max_member_rank ever cut, Frobenius.
  double relative_tail() const { return relative_tail_; }

  const std::set<std::string>& modules() const { return modules_; }
  const std::set<std::string>& dense() const { return dense_; }
  /// Views of the mapped file. Empty, or undefined, where there is no such part.
  ModuleSum module(const std::string& name) const;
  at::Tensor dense(const std::string& name) const;
  /// The pruning mask that follows from the versions, as clients find it.
  tensors::KeptGroups kept() const;
  /// What decides the next mask: in float32 and in the versions' order, as clients add.
  std::map<std::string, at::Tensor> pruning_statistics() const;
  void forget_pages() const { file_.forget_pages(); }

 private:
  tensors::SafetensorsFile file_;
  std::uint64_t version_ = 0;
  std::string head_;
  double relative_tail_ = 0.0;
  std::set<std::string> modules_;
  std::set<std::string> dense_;
};

/// One version on its way into the sum.
struct SumStep {
  std::filesystem::path before;   ///< the sum of the versions before; empty: there are none
  std::filesystem::path payload;  ///< of the version
  core::PublishMode mode = core::PublishMode::Add;
  std::uint64_t version = 0;
  std::string head;
  /// Most columns that a member of an ensemble may have in a module; what is more is cut. 0: all.
  std::int64_t max_member_rank = 0;
  std::filesystem::path after;  ///< complete or absent; not fsynced
};

/// After each module. @return false: give up
using SumProgress = std::function<bool(std::int64_t done, std::int64_t total)>;

/// Writes step.after. Equal files give equal bytes, on one kind of machine with one thread.
/// @return false: `progress` gave up, nothing was written
/// @throws core::InvalidArgument  a module or dense part changes its shape, or is not finite
/// @throws core::IoError
bool add_version(const SumStep& step, const SumProgress& progress = {});

}  // namespace drystone::aggregation
