#pragma once
// What the server makes of a round: from accepted updates to the factors of the next version.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "core/publish_mode.h"

namespace drystone::aggregation {

/// The payload of one accepted update.
struct UpdateFile {
  std::string client;  ///< for messages
  std::uint64_t num_examples = 0;
  std::filesystem::path payload;  ///< factor set file; not changed while the round is aggregated
};

/// The files of one aggregation. None of the outputs is fsynced; both are complete or absent.
struct AggregationJob {
  /// In any order: the sums run in the order of client names, so that the result is the same bits
  /// in whatever order the updates arrived.
  std::vector<UpdateFile> updates;
  std::filesystem::path carry_in;   ///< what the last round cut; empty: nothing
  std::filesystem::path output;     ///< the factors to publish
  std::filesystem::path carry_out;  ///< written only when something was cut
  /// Of the federation: no later round takes up what would be cut, so nothing is.
  bool is_last = false;
};

/// What goes into the round's report.
struct AggregationReport {
  int64_t stack_rank = 0;       ///< Σ ranks (+ carried), largest over modules
  int64_t compact_rank = 0;     ///< of what is published, largest over modules
  double relative_error = 0.0;  ///< of what was cut, largest over modules, relative to the module
  bool carries = false;         ///< carry_out was written
  /// "exact", "truncated, tol=0.001, 0.08 % carried over", "truncated, rank=64, 12 % carried over",
  /// or "inexact, factors averaged"
  std::string exactness;
  /// What the weight of a client was multiplied by because of its update's size (update_norms.h).
  std::map<std::string, double> lowered;
};

/// Interface of the rules; implementations are stateless between calls, so that a round may be
/// aggregated again and gives the same bits (same machine, same threads).
class AggregationRule {
 public:
  virtual ~AggregationRule() = default;
  /// Goes through the modules one at a time on mapped files: memory is about one module's stack,
  /// however many clients and modules there are.
  /// @throws core::InvalidArgument  no update, a client twice, updates of different layout, ranks
  ///                                that the rule cannot combine; names the client and the remedy
  /// @throws core::IoError          a file cannot be read or written
  virtual AggregationReport aggregate(const AggregationJob& job) const = 0;
};

/// A row of the table of rules: what others need to know of one.
struct Rule {
  std::string_view name;  ///< as in the configuration
  /// Of the versions that it makes. Replace: all adapt the same modules, and go on from what was
  /// published.
  core::PublishMode mode;
  bool mixes_ranks;  ///< of the clients of one round
  /// With the configuration's weights and compaction.
  std::unique_ptr<AggregationRule> (*make)(const core::AggregationConfig&);
};

std::span<const Rule> rules();

/// @throws core::ConfigError  a rule that does not exist (lists those that do)
const Rule& find_rule(const core::AggregationConfig& config);

/// @throws core::ConfigError  as find_rule, or a robust filter that does not exist
std::unique_ptr<AggregationRule> make_rule(const core::AggregationConfig& config);

/// A plan's start where clients go on from what was published: everybody begins with the same A.
inline constexpr std::string_view kCommonStart = "common";

/// wire::RoundPlan::start: kCommonStart, or aggregation.start.
std::string start_of(const core::AggregationConfig& config);

}  // namespace drystone::aggregation
