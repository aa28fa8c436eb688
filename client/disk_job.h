#pragma once
// What a session wants done on the client's disk, and what comes back of it (client/disk.h).

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "core/bytes.h"
#include "training/global_model.h"
#include "wire/messages.h"

namespace drystone::client {

/// Finds a version's payload, or goes on receiving it: after a reconnect its ranges are asked for
/// again. Comes back as Received.
struct SeekJob {
  core::Digest payload{};
  std::uint64_t bytes = 0;
};
/// Adds a piece of the payload that is being received. Comes back as Received.
struct ReceiveJob {
  wire::Chunk chunk;
};
/// Checks a payload that is whole and makes the version of it. Comes back as Folded.
struct FoldJob {
  training::GlobalStatePtr state;  ///< of the version before
  wire::VersionManifest manifest;
};
/// Comes back as UpdateChecked.
struct CheckUpdateJob {
  core::Digest payload{};
  std::uint64_t bytes = 0;
};
/// Reads a piece of the update. Comes back as PieceRead.
struct ReadJob {
  wire::Want want;
};
/// Survives a power cut once it came back as Written, as what follows.
struct StoreUpdateJob {
  core::Bytes payload;
};
struct SaveContractJob {
  std::string text;
};
struct RemoveJob {
  core::Digest payload{};
};
/// Deletes every payload, whole or not, but these and the applied versions'.
struct SweepJob {
  std::vector<core::Digest> needed;
};
using DiskJob = std::variant<SeekJob, ReceiveJob, FoldJob, CheckUpdateJob, ReadJob, StoreUpdateJob,
                             SaveContractJob, RemoveJob, SweepJob>;

struct Received {
  bool is_whole = false;
  std::vector<wire::Want> wants = {};  ///< what to ask for now
  std::string damage = {};             ///< why it has to be sought anew; empty: it has not
};
struct Folded {
  training::GlobalStatePtr state;
};
struct UpdateChecked {
  bool is_whole = false;
};
struct PieceRead {
  wire::Message answer;
};
struct Written {};
using DiskResult = std::variant<Received, Folded, UpdateChecked, PieceRead, Written>;

}  // namespace drystone::client
