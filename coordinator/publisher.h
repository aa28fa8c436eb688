#pragma once
// Makes versions: signs what the coordinator says, chains each version to the last.

#include <filesystem>
#include <string_view>

#include "coordinator/aggregate_round.h"
#include "coordinator/report.h"
#include "coordinator/store.h"
#include "core/config.h"
#include "crypto/identity.h"

namespace drystone::coordinator {

/// Not thread-safe; the arguments outlive it.
class Publisher {
 public:
  Publisher(Store& store, const crypto::Identity& identity, const core::Config& config)
      : store_(store), identity_(identity), config_(config) {}

  /// Version 0: what everybody starts from. @param initial  a factor set; stays where it is
  void publish_initial(const std::filesystem::path& initial) const;
  /// The version that `round` makes; closes the round in the store.
  /// @return its manifest @throws core::IoError  nothing is published
  wire::VersionManifest publish(const OpenRound& round, const AggregatedRound& result,
                                const RoundReport& report) const;
  wire::Signed sign(std::string_view domain, core::Bytes bytes) const;

 private:
  void publish(wire::VersionManifest& manifest, const RoundReport& report) const;

  Store& store_;
  const crypto::Identity& identity_;
  const core::Config& config_;
};

}  // namespace drystone::coordinator
