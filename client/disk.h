#pragma once
// A client's disk: carries out the session's disk jobs.

#include <cstdint>
#include <filesystem>
#include <optional>

#include "aggregation/layout.h"
#include "client/contract.h"
#include "client/disk_job.h"
#include "client/storage.h"
#include "wire/blob_store.h"
#include "wire/blob_transfer.h"

namespace drystone::client {

struct DiskSettings {
  std::filesystem::path blobs;     ///< folder of the payloads
  std::filesystem::path contract;  ///< file
};

/// One job at a time, on any thread, in the order of the session.
class Disk {
 public:
  /// Sweeps what interrupted writes left, also beside the contract's file.
  /// @param contract  what versions may hold and take
  /// @throws core::IoError
  Disk(DiskSettings settings, const Contract& contract);

  /// @throws core::IoError, core::Error  the disk fails or is full, the coordinator's version does
  ///                                     not fit the model: the client must not go on
  DiskResult run(const DiskJob& job);

 private:
  DiskResult run(const SeekJob& job);
  DiskResult run(const ReceiveJob& job);
  DiskResult run(const FoldJob& job);
  DiskResult run(const CheckUpdateJob& job);
  DiskResult run(const ReadJob& job);
  DiskResult run(const StoreUpdateJob& job);
  DiskResult run(const SaveContractJob& job);
  DiskResult run(const RemoveJob& job);
  DiskResult run(const SweepJob& job);
  Received received();

  DiskSettings settings_;
  aggregation::AdapterLayout layout_;
  std::int64_t max_rank_;
  wire::BlobStore blobs_;
  Storage storage_;
  std::optional<wire::BlobReceiver> download_;
};

}  // namespace drystone::client
