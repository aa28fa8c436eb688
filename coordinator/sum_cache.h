#pragma once
// The sum of the published versions on disk: DIR/sum-<version>.safetensors with its hash beside it.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "aggregation/published_sum.h"

namespace drystone::coordinator {

/// A version as the sum takes it.
struct SummedVersion {
  std::string head;  ///< of the chain, hex
  std::filesystem::path payload;
  core::PublishMode mode = core::PublishMode::Add;
};

/// Only a cache: what is missing, damaged, cut short by a crash or of another chain is made again
/// from the versions, to the same bits. One thread at a time.
class SumCache {
 public:
  explicit SumCache(std::filesystem::path dir, std::int64_t max_member_rank = 0)
      : dir_(std::move(dir)), max_member_rank_(max_member_rank) {}

  /// The sum of versions[0] to the last. @return std::nullopt: `progress` gave up
  /// @throws core::IoError, core::InvalidArgument  see aggregation::add_version
  std::optional<aggregation::PublishedSum> sum_of(const std::vector<SummedVersion>& versions,
                                                  const aggregation::SumProgress& progress = {});

 private:
  std::filesystem::path file(std::uint64_t version) const;
  std::filesystem::path hash_file(std::uint64_t version) const;
  /// Leaves the newest usable sum of a beginning of `versions`, removes every other file.
  void find(const std::vector<SummedVersion>& versions);
  bool is_whole(std::uint64_t version, const std::vector<SummedVersion>& versions) const;
  void forget(std::uint64_t version) const;

  std::filesystem::path dir_;
  std::int64_t max_member_rank_;
  std::optional<std::uint64_t> newest_;
  std::string head_;  ///< of `newest_`
};

}  // namespace drystone::coordinator
