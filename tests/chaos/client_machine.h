#pragma once
// A client's machine: its disk, and a session as the client program drives it.

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "client/disk.h"
#include "client/session.h"
#include "core/seed.h"
#include "tests/chaos/disk.h"
#include "tests/chaos/federation.h"
#include "tests/chaos/network.h"
#include "tests/chaos/serial_model.h"

namespace drystone::chaos {

class ClientMachine {
 public:
  struct Parts {
    Timeline& timeline;
    Network& network;
    SerialModel& model;
    const Schedule& schedule;
    const Federation& federation;
    /// Checked signatures of one process's sessions, so that a schedule takes less time.
    std::shared_ptr<client::CheckedPlans> checked_plans;
    std::shared_ptr<client::CheckedVersions> checked_versions;
  };
  ClientMachine(const Parts& parts, int number);

  Disk& disk() { return disk_; }
  const std::string& name() const { return name_; }
  bool has_ended() const { return has_ended_; }
  std::uint64_t num_crashes() const { return num_crashes_; }
  bool is_running() const { return session_ != nullptr; }

  void start();
  void on_connected();
  void on_message(core::Expected<wire::Message> message);
  /// At any moment. @param lost_power  see Disk
  void crash(bool lost_power);
  void heal();

 private:
  template <typename Work>
  void work(Work&& what);
  void end_life(bool lost_power, core::Instant pause);
  void pump();
  void work_on_disk();
  void compute(client::Job job);
  void finish(std::uint64_t life, const client::Job& job, bool fails);

  Parts parts_;
  int number_;
  std::string name_;
  std::string folder_;
  Disk disk_;
  core::SplitMix64 random_;
  std::uint64_t life_ = 0;
  std::uint64_t num_crashes_ = 0;
  std::uint64_t errors_before_ = 0;  ///< of the disk, when this life began
  bool has_ended_ = false;
  bool is_healed_ = false;
  bool is_excused_ = false;  ///< rough messages or bit rot may turn it away
  bool has_rotted_ = false;  ///< or will: it may lose its update
  std::unique_ptr<client::Session> session_;
  std::unique_ptr<client::Disk> storage_;
};

}  // namespace drystone::chaos
