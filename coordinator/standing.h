#pragma once
// What a federation is at and where each of its clients stands: the round machine's own facts, for
// whoever shows them.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/expected.h"

namespace drystone::coordinator {

enum class Phase : std::uint8_t {
  Gathering,    ///< no round is open: waits for clients
  Collecting,   ///< a round is open
  Aggregating,  ///< a version is made of it
  Finishing,    ///< all rounds are done; evaluations may be missing
  Done,         ///< finished or failed
};

enum class Stance : std::uint8_t {
  Absent,     ///< has not said Hello since the coordinator started, or since it was silent
  Present,    ///< there, and not asked
  Asked,      ///< in the open round, no answer yet; an evaluator: has a version to evaluate
  Uploading,  ///< its update is on its way
  Accepted,   ///< in the open round
  Refused,    ///< in the open round
  Excluded,   ///< refused in an earlier attempt of this round
  Silent,     ///< asked in an earlier round and gave no answer
};

struct ClientStanding {
  std::string client;
  bool evaluates = false;
  Stance stance = Stance::Absent;
  std::optional<core::Refusal> refusal = {};  ///< of Refused
  std::uint64_t rests_until = 0;  ///< of Silent: first round that it is asked in again; 0: any
  bool is_there = false;          ///< has said Hello, and was not silent since
};

struct Standing {
  Phase phase = Phase::Gathering;
  core::Instant since{};                       ///< the phase began
  std::optional<core::Instant> deadline = {};  ///< the phase ends by itself; std::nullopt: never
  std::uint64_t version = 0;
  std::uint64_t rounds = 0;
  std::uint64_t round = 0;  ///< open, or next
  std::uint64_t attempt = 0;
  std::uint64_t quorum = 0;
  std::uint64_t asked = 0;     ///< in the open round
  std::uint64_t accepted = 0;  ///< likewise
  std::vector<ClientStanding> clients;
};

}  // namespace drystone::coordinator
