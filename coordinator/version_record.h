#pragma once
// versions/NNNN/version.json: everything that lets anyone recompute a published version.

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/store.h"
#include "wire/messages.h"

namespace drystone::coordinator {

/// One accepted update: its manifest as signed, and by whom.
struct RecordedUpdate {
  std::string client;
  wire::Signed manifest;       ///< signed in the context of the plan's transcript
  crypto::PublicKey signer{};  ///< zeros: accepted before keys were kept, and not known since
};

/// One evaluator's figures of this version.
struct RecordedEvaluation {
  std::string client;
  wire::Signed manifest;  ///< signed in the context of the version's head
  crypto::PublicKey signer{};
};

struct VersionRecord {
  wire::Signed manifest;  ///< wire::VersionManifest
  crypto::PublicKey coordinator{};
  wire::Signed plan;                    ///< empty bytes for version 0
  std::vector<RecordedUpdate> updates;  ///< in the order of the Merkle leaves
  std::vector<RecordedEvaluation> evaluations;
};

/// Of a version.json: what a federation of thousands writes.
constexpr std::uint64_t kMaxRecordBytes = std::uint64_t{1} << 30;

std::string to_json(const VersionRecord& record);
/// @throws core::IoError  not such a text
VersionRecord record_from_json(const std::string& text);

/// What the store holds of one version. @throws core::InvariantError  no such version
VersionRecord make_record(const Store& store, std::uint64_t version);

}  // namespace drystone::coordinator
