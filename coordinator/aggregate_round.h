#pragma once
// From an open round's accepted updates to the payload of the next version.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aggregation/rule.h"
#include "coordinator/round_machine.h"
#include "core/config.h"
#include "wire/blob_store.h"

namespace drystone::coordinator {

struct AggregatedRound {
  std::filesystem::path payload;  ///< a file beside the blob store, to be adopted
  core::PublishMode mode = core::PublishMode::Add;
  aggregation::AggregationReport report;
  std::vector<std::string> zeros;  ///< clients whose update changes nothing
  /// Why it must not be published; std::nullopt: every number is finite.
  std::optional<std::string> unsound;
};

/// Runs the configured rule on stored updates. What a version's compaction cut waits in
/// DIR/carry-<version>.safetensors for the round that starts from that version, so a round that is
/// aggregated again after a crash finds the same input and gives the same bits.
class RoundAggregator {
 public:
  /// @throws core::ConfigError  a rule that does not exist
  RoundAggregator(const core::Config& config, std::filesystem::path dir);
  ~RoundAggregator();

  /// Any thread; touches only its own files. What it reads is hashed first: nothing that the disk
  /// has changed is ever published. @throws core::InvalidArgument, core::IoError
  AggregatedRound aggregate(const OpenRound& round, const wire::BlobStore& blobs) const;
  /// The version is published: what an earlier round carried is no longer needed.
  void forget_carry(std::uint64_t base_version) const;

 private:
  std::filesystem::path carry(std::uint64_t version) const;

  core::PublishMode mode_;
  std::unique_ptr<aggregation::AggregationRule> rule_;
  std::uint64_t rounds_;  ///< of the federation
  std::filesystem::path dir_;
};

}  // namespace drystone::coordinator
