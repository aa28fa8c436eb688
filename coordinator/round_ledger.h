#pragma once
// What is counted while a round is open, and the row that the round becomes in the report.

#include <cstdint>
#include <map>
#include <string>

#include "coordinator/aggregate_round.h"
#include "coordinator/report.h"
#include "core/client_list.h"
#include "core/clock.h"
#include "core/expected.h"
#include "wire/messages.h"

namespace drystone::coordinator {

/// Frame bytes of the coordinator's transport since its start.
struct Traffic {
  std::uint64_t received = 0;
  std::uint64_t sent = 0;
};

/// Not thread-safe. Nothing of it outlives the process: a coordinator that starts again in the
/// middle of a round counts from there, and the round's row says so.
class RoundLedger {
 public:
  /// @param config       whose listed clients say how they hold the base until they join
  /// @param is_in_round  a round of an earlier life is open
  RoundLedger(const core::Config& config, core::Instant now, bool is_in_round);

  /// A plan was made: refusals are counted anew.
  void open();
  void join(const std::string& client, const wire::Hello& hello, bool is_trainer);
  /// @return how often the client was refused since the round opened
  std::uint64_t refuse(const std::string& client, core::Refusal reason);
  std::uint64_t num_refused(const std::string& client) const;

  /// The row of a round that is to be published.
  RoundReport row(const OpenRound& round, const AggregatedRound& result, const Traffic& traffic,
                  core::Instant now) const;
  /// It is published: the next one's time and bytes count from here.
  void close(const Traffic& traffic, core::Instant now);

 private:
  std::string base_of(const std::string& client) const;

  const std::string quantization_;  ///< model.quantization
  const core::ClientList listed_;
  std::map<std::string, std::string>
      bases_;  ///< by client: how it said that it holds the base model
  std::map<std::string, std::string> devices_;      ///< by trainer
  std::map<std::string, std::uint64_t> by_reason_;  ///< refusals in the open round
  std::map<std::string, std::uint64_t> by_client_;  ///< the same
  Traffic before_;                                  ///< at the last round's end
  core::Instant since_;                             ///< likewise
  bool is_since_restart_ = false;                   ///< what is counted began in a round's middle
};

}  // namespace drystone::coordinator
