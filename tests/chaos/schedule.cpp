#include "tests/chaos/schedule.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "core/seed.h"

namespace drystone::chaos {

namespace {

using Kind = Fault::Kind;

constexpr std::uint64_t kCallsOfCoordinator = 260;  // of a run that nothing disturbs, and some
constexpr std::uint64_t kCallsOfClient = 130;
constexpr std::uint64_t kTime = 60'000;  // ms in which most of a run happens
constexpr std::uint64_t kMessages = 24;  // of one client, one way

class Maker {
 public:
  explicit Maker(std::uint64_t seed) : random_({seed, 0, "", "schedule"}) { schedule_.seed = seed; }

  Schedule make() {
    choose_federation();
    schedule_.is_rough = chance(4);
    const bool only_crashes = chance(4);
    const std::uint64_t count = chance(16) ? 0 : 1 + below(below(6) + 1) + below(4);
    for (std::uint64_t i = 0; i < count; ++i) {
      schedule_.faults.push_back(only_crashes ? crash() : fault());
    }
    return schedule_;
  }

 private:
  std::uint64_t below(std::uint64_t bound) { return random_.below(bound); }
  bool chance(std::uint64_t of) { return below(of) == 0; }

  void choose_federation() {
    schedule_.clients = 2 + static_cast<int>(below(3));
    schedule_.has_evaluator = chance(5);
    schedule_.rounds = 1 + static_cast<std::int64_t>(below(3));
    const auto clients = static_cast<std::uint64_t>(schedule_.clients);
    if (chance(3)) schedule_.cohort = 1 + static_cast<std::int64_t>(below(clients));
    const std::uint64_t cohort =
        schedule_.cohort == 0 ? clients : static_cast<std::uint64_t>(schedule_.cohort);
    if (schedule_.cohort != 0 && chance(2)) schedule_.over_selection = 1.5;
    const std::uint64_t kind = below(3);
    schedule_.quorum = kind == 0   ? 0
                       : kind == 1 ? -1
                                   : 1 + static_cast<std::int64_t>(below(cohort));
    schedule_.keeps_updates = chance(2);
    constexpr std::array kCompactions = {"none", "none", "lossless", "tolerance"};
    schedule_.compaction = kCompactions.at(below(kCompactions.size()));
    if (!chance(200)) return;
    schedule_.has_large_payloads = true;
    schedule_.compaction = "none";
    schedule_.clients = 2;
    schedule_.cohort = schedule_.quorum = 0;
    schedule_.over_selection = 1.0;
    schedule_.rounds = 2;
  }

  int machine() {
    const int parties = schedule_.clients + (schedule_.has_evaluator ? 1 : 0);
    return chance(2) ? 0 : 1 + static_cast<int>(below(static_cast<std::uint64_t>(parties)));
  }
  int client() {
    return 1 + static_cast<int>(below(static_cast<std::uint64_t>(schedule_.clients)));
  }
  std::uint64_t calls(int machine) {
    return below(1 + below(machine == 0 ? kCallsOfCoordinator : kCallsOfClient));
  }

  Fault crash() {
    const int who = machine();
    if (chance(5)) {
      return {Kind::CrashAtTime, who, below(kTime), 0, chance(2) ? 2 : 0};
    }
    return {Kind::CrashInCall, who, calls(who), 0, static_cast<int>(below(4))};
  }

  Fault fault() {
    switch (below(12)) {
      case 0:
      case 1:
      case 2: return crash();
      case 3: {
        constexpr std::array kReasons = {ENOSPC, EIO, EMFILE};
        const int who = machine();
        const std::uint64_t count = chance(2) ? 1 : 1 + below(40);
        return {Kind::DiskErrors, who, calls(who), count, kReasons.at(below(kReasons.size()))};
      }
      case 4: return message_fault();
      case 5:
        return schedule_.is_rough ? message_fault()
                                  : Fault{Kind::Break, client(), below(kTime), 0, 0};
      case 6: {
        const std::uint64_t length = chance(2) ? below(15'000) : below(150'000);
        return {Kind::Partition, client(), below(kTime), length, 1 + static_cast<int>(below(3))};
      }
      case 7:
        return {Kind::SlowLink, client(), below(kTime), below(100'000),
                100 + static_cast<int>(below(5'000))};
      case 8: return {Kind::ClockJump, machine(), below(kTime), below(120'000), 0};
      case 9:
        return chance(4) ? Fault{Kind::FailedTraining, client(), 1 + below(3), 0, 0}
                         : Fault{Kind::SlowTraining, client(), 1 + below(3), below(200'000), 0};
      case 10: return {Kind::SlowWork, 0, below(16), below(100'000), 0};
      default: return {Kind::BitRot, machine(), below(kTime), random_(), 0};
    }
  }

  Fault message_fault() {
    constexpr std::array kKinds = {Kind::Drop, Kind::Delay, Kind::Duplicate, Kind::Corrupt,
                                   Kind::Cut};
    const Kind kind = schedule_.is_rough ? kKinds.at(below(kKinds.size())) : kKinds.at(below(2));
    return {kind, client(), below(kMessages), below(chance(4) ? 90'000 : 2'000),
            static_cast<int>(below(2))};
  }

  core::SplitMix64 random_;
  Schedule schedule_;
};

const char* name(Kind kind) {
  switch (kind) {
    case Kind::CrashInCall: return "crash in disk call";
    case Kind::CrashAtTime: return "crash at ms";
    case Kind::DiskErrors: return "disk errors from call";
    case Kind::BitRot: return "bit rot at ms";
    case Kind::Drop: return "drop message";
    case Kind::Duplicate: return "duplicate message";
    case Kind::Delay: return "delay message";
    case Kind::Corrupt: return "corrupt message";
    case Kind::Cut: return "cut message";
    case Kind::Break: return "break connection at ms";
    case Kind::Partition: return "partition from ms";
    case Kind::SlowLink: return "slow link from ms";
    case Kind::ClockJump: return "clock jump at ms";
    case Kind::SlowTraining: return "slow training in round";
    case Kind::FailedTraining: return "failed training in round";
    case Kind::SlowWork: return "slow task";
  }
  return "";
}

std::string detail_of(const Fault& fault) {
  switch (fault.kind) {
    case Kind::CrashInCall:
      return std::string((fault.detail & 1) != 0 ? ", after it" : ", within it") +
             ((fault.detail & 2) != 0 ? ", power lost" : "");
    case Kind::CrashAtTime: return (fault.detail & 2) != 0 ? ", power lost" : "";
    case Kind::DiskErrors: return std::string(", ") + std::strerror(fault.detail);
    case Kind::SlowLink: return ", " + std::to_string(fault.detail) + " B/s";
    case Kind::Partition:
      return fault.detail == 3 ? ", both ways" : fault.detail == 1 ? ", to it" : ", from it";
    case Kind::Drop:
    case Kind::Duplicate:
    case Kind::Delay:
    case Kind::Corrupt:
    case Kind::Cut: return fault.detail == 1 ? ", to it" : ", from it";
    default: return "";
  }
}

}  // namespace

Schedule make_schedule(std::uint64_t seed) { return Maker(seed).make(); }

bool Schedule::loses_power() const {
  return std::ranges::any_of(faults, [](const Fault& fault) {
    const bool is_crash = fault.kind == Kind::CrashInCall || fault.kind == Kind::CrashAtTime;
    return is_crash && (fault.detail & 2) != 0;
  });
}

std::string describe(const Fault& fault) {
  const std::string who =
      fault.machine == 0 ? "coordinator" : "client-" + std::to_string(fault.machine);
  const bool has_amount = fault.amount > 0 && fault.kind != Kind::BitRot;
  return who + ": " + name(fault.kind) + " " + std::to_string(fault.at) + detail_of(fault) +
         (has_amount ? ", " + std::to_string(fault.amount) +
                           (fault.kind == Kind::DiskErrors ? " calls" : " ms")
                     : "");
}

std::string describe(const Schedule& schedule) {
  return std::to_string(schedule.clients) + " clients" +
         (schedule.has_evaluator ? " and an evaluator" : "") + ", " +
         std::to_string(schedule.rounds) + " rounds, quorum " + std::to_string(schedule.quorum) +
         ", cohort " + std::to_string(schedule.cohort) +
         (schedule.over_selection > 1.0 ? ", more are asked" : "") + ", compaction " +
         schedule.compaction + (schedule.keeps_updates ? ", keeps updates" : "") +
         (schedule.has_large_payloads ? ", large payloads" : "") +
         (schedule.is_rough ? ", rough network" : "");
}

}  // namespace drystone::chaos
