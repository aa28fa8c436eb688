#pragma once
// One pruning mask that a whole federation follows (LoRAPrune, Zhang et al., 2024,
// arXiv:2305.18403). A block of a model (one layer's attention heads, or its feed-forward channels)
// is cut into groups, which are kept or pruned as a whole.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace drystone::tensors {

/// Scores are the statistics "pruning/<block>" [groups]; the plan is "pruning/plan", version 0's.
inline constexpr std::string_view kPruning = "pruning/";
inline constexpr std::string_view kPruningPlan = "pruning/plan";

/// How the share of pruned groups grows over a federation's rounds.
struct PruningPlan {
  std::int64_t rounds = 0;
  double ratio = 0.5;     ///< in the end
  double initial = 0.0;   ///< until warmup · rounds
  double warmup = 0.1;    ///< share of the rounds before pruning begins
  double cooldown = 0.1;  ///< share of the rounds after it has ended

  bool operator==(const PruningPlan&) const = default;

  /// `initial` until warm-up ends, `ratio` once cool-down has begun, between them
  /// ratio + (initial − ratio) · (1 − p)³ with p from 0 to 1.
  double sparsity(std::int64_t round) const;
};

/// The plan as version 0 publishes it, [5] float32.
at::Tensor to_tensor(const PruningPlan& plan);
/// Of what was published; the shares are read to six digits.
/// @throws core::InvalidArgument  not such a tensor
PruningPlan read_plan(const at::Tensor& published);

/// groups · sparsity to the nearest whole number, halves upwards; at least one group stays.
std::int64_t num_pruned(std::int64_t groups, double sparsity);

/// block → [groups] bool on the CPU, true where a group is kept. A function of what was published
/// alone: everybody who reads the same versions has the same masks, to the bit.
using KeptGroups = std::map<std::string, at::Tensor>;

/// The masks after a version: each block with scores loses its least important groups, equal scores
/// in order, until the plan's number is reached. What was pruned stays pruned. Blocks without any
/// score above zero are left as they are. Without a plan: `before`.
/// @param statistics  all that was published, by name without "statistics/"
/// @throws core::InvalidArgument  a block's number of groups has changed
KeptGroups next_mask(const KeptGroups& before, std::uint64_t version,
                     const std::map<std::string, at::Tensor>& statistics);

/// sums += published: in float32, in the order of the calls.
/// @throws core::InvalidArgument  a statistic has another shape than before
void add_statistic(std::map<std::string, at::Tensor>& sums, const std::string& name,
                   const at::Tensor& published);

/// Writes the masks as JSON: {"BLOCK": {"groups": G, "pruned": [...]}, ...}. @throws core::IoError
void write_mask(const std::filesystem::path& file, const KeptGroups& kept);
/// @throws core::IoError  no such file, or not such a document
KeptGroups read_mask(const std::filesystem::path& file);

/// The name of the file in a run's global/ folder, beside the adapter.
inline constexpr const char* kMaskFile = "pruning.json";

}  // namespace drystone::tensors
