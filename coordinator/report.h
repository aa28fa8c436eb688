#pragma once
// What a run tells about itself: one row a round, evaluations, totals (contract: report.json).

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/bytes.h"

namespace drystone::coordinator {

/// Metrics of one evaluation by name: loss, accuracy, nll, ece …
using Metrics = std::map<std::string, double>;

/// Of a round of a simulation with device profiles (docs/virtual-time.md).
struct SimulatedTime {
  double seconds = 0.0;       ///< of the round, abandoned attempts included
  double clock = 0.0;         ///< seconds from the federation's start to the round's end
  double busy_seconds = 0.0;  ///< all clients' trainings in the attempt that was published, also
                              ///< those of late and surplus ones
  double joules = 0.0;        ///< of these
  std::uint64_t late = 0;     ///< clients who missed federation.deadline
  std::uint64_t dropped = 0;  ///< clients who never answered
  std::uint64_t surplus = 0;  ///< clients whom federation.over_selection had asked for nothing
};

struct RoundReport {
  std::uint64_t round = 0;
  std::uint64_t version = 0;
  std::uint64_t asked = 0;
  std::uint64_t accepted = 0;
  std::map<std::string, std::uint64_t> rejected;  ///< refusal name → count
  /// The coordinator was started in the middle of this round: refusals, bytes and seconds are those
  /// since then.
  bool since_restart = false;
  double train_loss = 0.0;     ///< mean over accepted updates, by weight
  std::uint64_t bytes_up = 0;  ///< frame bytes while this round was open
  std::uint64_t bytes_down = 0;
  std::int64_t stack_rank = 0;  ///< largest over modules
  std::int64_t compact_rank = 0;
  std::string exactness;
  double relative_error = 0.0;  ///< ‖what waits for the next round‖ / ‖sum‖ over all modules
  double seconds = 0.0;
  std::uint64_t client_steps = 0;
  std::uint64_t tokens = 0;
  std::uint64_t passes = 0;  ///< over micro-batches, forward and backward
  /// Accepted clients by how they hold the base model ("none", "nf4"): each one's update is
  /// relative to its own base, dequantised.
  std::map<std::string, std::uint64_t> bases = {};
  /// Accepted clients by the device that they told of; who was silent since a restart is left out.
  std::map<std::string, std::uint64_t> devices = {};
  /// Clients whose weight was lowered for the size of their update, and to what share of it.
  std::map<std::string, double> lowered = {};
  std::vector<std::string> zero_updates = {};  ///< accepted clients whose update changes nothing
  std::optional<Metrics> eval;                 ///< of the version that this round published
  std::optional<SimulatedTime> simulated = {};
};

struct RunReport {
  std::string name;
  std::uint64_t seed = 0;
  std::string config_hash;
  core::Digest head{};
  std::vector<RoundReport> rounds;
  std::optional<Metrics> before;
  std::optional<Metrics> after;
  double seconds = 0.0;
  std::uint64_t bytes_up = 0;
  std::uint64_t bytes_down = 0;
  std::uint64_t peak_rss_bytes = 0;
  std::string device;  ///< of the accepted clients; empty before the first round's end
};

/// The metric that the task is judged by: accuracy, pearson or perplexity, else loss.
std::string score_name(const RunReport& report);

/// report.json's text; field names are the contract's.
std::string to_json(const RunReport& report);
/// One round as the value of a database row, and back. @throws core::IoError  not such a text
std::string to_json(const RoundReport& round);
RoundReport round_from_json(const std::string& text);

}  // namespace drystone::coordinator
