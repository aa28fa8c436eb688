#pragma once
// What the server makes of a round: from accepted updates to the factors of the next version.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/publish_mode.h"

namespace drystone::aggregation {

/// How large a whole update is: roots of sums of squares, statistics left out.
struct UpdateNorms {
  double modules = 0.0;
  double dense = 0.0;
};

/// The payload of one accepted update.
struct UpdateFile {
  std::string client;  ///< for messages
  std::uint64_t num_examples = 0;
  std::filesystem::path payload;  ///< factor set file; not changed while the round is aggregated
  std::optional<UpdateNorms> norms = {};  ///< where they are known: norms_of the payload
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
  double relative_error = 0.0;  ///< ‖what was cut‖ / ‖sum‖ over all modules, Frobenius
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

}  // namespace drystone::aggregation
