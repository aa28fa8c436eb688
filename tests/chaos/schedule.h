#pragma once
// What one seed stands for: a federation, and the faults that it meets.

#include <cstdint>
#include <string>
#include <vector>

namespace drystone::chaos {

/// Machine 0 is the coordinator, the others are clients.
struct Fault {
  enum class Kind : std::uint8_t {
    CrashInCall,   ///< of the disk, number `at`; detail: bit 0 after it, bit 1 the power fails too
    CrashAtTime,   ///< `at` ms; detail bit 1 as above
    DiskErrors,    ///< `amount` calls from number `at` on; detail: errno
    BitRot,        ///< at `at` ms in a payload; amount: which file and bit
    Drop,          ///< message `at` of this client; detail: 1 from the coordinator, 0 to it
    Duplicate,     ///< likewise, comes again after `amount` ms
    Delay,         ///< likewise, by `amount` ms
    Corrupt,       ///< likewise, a bit is flipped
    Cut,           ///< likewise, only a part arrives
    Break,         ///< the client's connection, at `at` ms
    Partition,     ///< from `at` ms for `amount` ms; detail: 1 to the client, 2 from it, 3 both
    SlowLink,      ///< likewise, bytes a second in detail
    ClockJump,     ///< at `at` ms by `amount` ms, forward
    SlowTraining,  ///< in round `at`, by `amount` ms
    FailedTraining,  ///< in round `at`
    SlowWork,        ///< the coordinator's task number `at` takes `amount` ms
  };
  Kind kind{};
  int machine = 0;
  std::uint64_t at = 0;
  std::uint64_t amount = 0;
  int detail = 0;
};

struct Schedule {
  std::uint64_t seed = 0;
  int clients = 2;  ///< that train
  bool has_evaluator = false;
  std::int64_t rounds = 2;
  std::int64_t quorum = 0;
  std::int64_t cohort = 0;
  double over_selection = 1.0;
  bool keeps_updates = true;
  std::string compaction = "none";
  bool has_large_payloads = false;  ///< of several chunks
  /// Messages are lost, doubled and reordered within a connection, which no TCP connection does:
  /// then every connection is made anew when the faults stop.
  bool is_rough = false;
  std::vector<Fault> faults;

  bool loses_power() const;
};

Schedule make_schedule(std::uint64_t seed);
/// One line.
std::string describe(const Fault& fault);
std::string describe(const Schedule& schedule);

}  // namespace drystone::chaos
