#pragma once
// What a virtual client has in the place of a disk.

#include <optional>

#include "client/contract.h"
#include "client/disk_job.h"
#include "simulation/shared_versions.h"
#include "wire/inproc_transport.h"

namespace drystone::simulation {

/// Versions are shared with all others and taken from where the coordinator keeps them, counted as
/// if they had been sent; the update lives in memory until the coordinator has it. One thread at a
/// time; the arguments outlive it.
class VirtualDisk {
 public:
  /// @param keeps_states  gives the session each version's state, for evaluations that come late;
  ///                      otherwise the pristine one: a training takes SharedVersions::newest
  VirtualDisk(SharedVersions& versions, const client::Contract& contract, wire::InprocHub& hub,
              bool keeps_states)
      : versions_(versions), contract_(contract), hub_(hub), keeps_states_(keeps_states) {}

  /// @throws core::Error  as client::Disk::run
  client::DiskResult run(client::DiskJob job);
  /// The coordinator has the update, or will not take it.
  void forget_update() { update_.reset(); }

 private:
  struct StoredUpdate {
    core::Digest digest{};
    core::Bytes payload;
  };

  client::DiskResult run(client::SeekJob& job);
  client::DiskResult run(client::ReceiveJob& job);
  client::DiskResult run(client::FoldJob& job);
  client::DiskResult run(client::CheckUpdateJob& job);
  client::DiskResult run(client::ReadJob& job);
  client::DiskResult run(client::StoreUpdateJob& job);
  client::DiskResult run(client::SaveContractJob& job);
  client::DiskResult run(client::RemoveJob& job);
  client::DiskResult run(client::SweepJob& job);

  SharedVersions& versions_;
  const client::Contract& contract_;
  wire::InprocHub& hub_;
  bool keeps_states_;
  std::optional<StoredUpdate> update_;
};

}  // namespace drystone::simulation
