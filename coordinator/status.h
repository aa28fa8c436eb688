#pragma once
// One snapshot of a federation: what it is at, who is there and does what, and what it waits for.
// A coordinator that runs keeps it in STATE/status.json; `drystone status` and pages show it.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace drystone::coordinator {

/// Seconds since 1970, as clocks on walls and other machines have them.
using UnixTime = double;

struct ClientStatus {
  std::string name;
  std::string role;   ///< train | evaluate
  std::string state;  ///< absent | present | asked | training | evaluating | uploading | accepted |
                      ///< refused | excluded | silent
  UnixTime since = 0.0;  ///< of the state
  UnixTime heard = 0.0;  ///< its last message; 0: none
  std::uint64_t step = 0;
  std::uint64_t num_steps = 0;  ///< 0: told nothing yet
  double loss = 0.0;
  std::string device;
  std::uint64_t num_examples = 0;
  std::string reason;  ///< why it was refused last, in this round: "rank-above-quota: …"
  bool operator==(const ClientStatus&) const = default;
};

struct Status {
  std::string name;
  std::string federation;  ///< hex id
  std::string phase;       ///< gathering | collecting | aggregating | finishing | done | failed
  UnixTime since = 0.0;    ///< of the phase
  UnixTime written = 0.0;
  std::optional<UnixTime> deadline;  ///< of the phase
  std::uint64_t version = 0;
  std::uint64_t rounds = 0;
  std::uint64_t round = 0;  ///< open, or next
  std::uint64_t attempt = 0;
  std::uint64_t asked = 0;
  std::uint64_t accepted = 0;
  std::uint64_t quorum = 0;
  std::string reason;  ///< why it failed, or why its last attempt was abandoned; empty: neither
  std::vector<ClientStatus> clients;
  bool operator==(const Status&) const = default;
};

std::string to_json(const Status& status);
/// @throws core::IoError  not such a text
Status status_from_json(const std::string& text);
/// STATE/status.json; std::nullopt: there is none. @throws core::IoError  not readable
std::optional<Status> read_status(const std::filesystem::path& state);

/// "client-2 (training, step 40 of 120), client-4 (absent)", or what else holds it up, in words;
/// empty once it is over. Names at most twenty.
std::string waits_for(const Status& status);

/// What is known of a state folder, whether a coordinator has it open or not.
struct StateStatus {
  Status status;         ///< of a stopped or simulated one: what the database holds
  bool is_open = false;  ///< a process holds the folder
  bool is_live = false;  ///< `status` is what that process says
};

/// Reads beside whoever writes, and changes nothing.
/// @throws core::ConfigError  no state there  @throws core::IoError
StateStatus status_of(const std::filesystem::path& state);

}  // namespace drystone::coordinator
