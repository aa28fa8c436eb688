#pragma once
// One version after the other: signatures, Merkle roots, the chain of heads, and each payload from
// the clients' own updates. The records come from a run folder or from a coordinator's state.

#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "aggregation/layout.h"
#include "aggregation/rule.h"
#include "coordinator/version_record.h"

namespace drystone::cli {

/// Thrown inside a check and caught where its result is made.
struct Wrong {
  std::string what;
};

inline void hold(bool condition, const std::string& otherwise) {
  if (!condition) throw Wrong{otherwise};
}

/// An exception's text for a verification: its first line, without the JSON library's marks.
std::string reason(const std::exception& error);

/// Where a version's payloads lie.
struct VersionFiles {
  std::filesystem::path factors;
  std::function<std::filesystem::path(const wire::UpdateManifest&)> update;
};

/// A version as it was found.
struct VersionCheck {
  std::uint64_t version = 0;
  std::uint64_t updates = 0;
  bool recomputed = false;           ///< from the clients' payloads, bit for bit
  std::optional<std::string> wrong;  ///< the first thing that does not hold
};

/// What its signed parts say, as far as they hold.
struct VersionFacts {
  VersionCheck check;
  std::optional<wire::VersionManifest> manifest;
  std::vector<wire::UpdateManifest> claims;
  std::vector<wire::EvaluationManifest> evaluations;
  std::optional<aggregation::AggregationReport> aggregation;
  std::vector<std::filesystem::path> files;  ///< that were hashed
  std::uint64_t missing = 0;                 ///< updates whose payload is not there
};

/// Against what the versions are checked.
struct ChainRules {
  std::optional<core::Digest> config;  ///< std::nullopt: whichever the first version names
  std::string config_source;           ///< "config.toml", for messages
  bool keeps_updates = false;          ///< an update whose payload is not there is wrong
  /// To recompute; nullptr: signatures and hashes only.
  const aggregation::AggregationRule* rule = nullptr;
  std::uint64_t rounds = 0;  ///< of the federation: the last one cuts nothing
  const aggregation::AdapterLayout* layout = nullptr;  ///< nullptr: not known
  std::filesystem::path scratch;
};

class VersionChain {
 public:
  explicit VersionChain(ChainRules rules) : rules_(std::move(rules)) {}

  /// The next version. @throws nothing that a damaged record can bring about: see VersionCheck
  VersionFacts check(const std::function<coordinator::VersionRecord()>& read,
                     const VersionFiles& files);
  const core::Digest& head() const { return head_; }
  std::uint64_t num_versions() const { return next_; }

 private:
  void check_manifest(const coordinator::VersionRecord& record,
                      const wire::VersionManifest& manifest, const core::Digest& previous,
                      const std::filesystem::path& factors);
  void check_plan(const wire::Signed& signed_plan, const wire::VersionManifest& manifest) const;
  std::vector<wire::UpdateManifest> check_updates(const coordinator::VersionRecord& record,
                                                  const wire::VersionManifest& manifest) const;
  void recompute(VersionFacts& facts, const VersionFiles& files);

  ChainRules rules_;
  std::uint64_t next_ = 0;  ///< number of versions looked at
  core::Digest head_{};
  std::optional<crypto::PublicKey> coordinator_;
  std::filesystem::path carry_;  ///< what the version before cut
  bool carry_known_ = true;
};

/// The hash of the configuration that a record names; std::nullopt: the coordinator's signature
/// does not hold.
std::optional<core::Digest> signed_config(const coordinator::VersionRecord& record);

/// The evaluations of a record, each signed over the version's head. @throws Wrong
std::vector<wire::EvaluationManifest> check_evaluations(const coordinator::VersionRecord& record,
                                                        const wire::VersionManifest& manifest);

}  // namespace drystone::cli
