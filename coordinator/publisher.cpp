#include "coordinator/publisher.h"

#include <limits>
#include <utility>
#include <vector>

#include "aggregation/rules.h"
#include "coordinator/federation_id.h"
#include "core/client_list.h"
#include "core/files.h"
#include "crypto/hash.h"

namespace drystone::coordinator {

namespace {

constexpr core::Digest kNoContext{};

/// Version 0's factors (model.adapter) go into the base, except where they would be lost with the
/// next average, or where everybody needs the factors themselves.
core::PublishMode initial_mode(const core::Config& config) {
  if (core::collects_posterior(config)) return core::PublishMode::Replace;
  return aggregation::find_rule(config.aggregation).mode;
}

}  // namespace

wire::Signed Publisher::sign(std::string_view domain, core::Bytes bytes) const {
  const crypto::Signature signature = crypto::sign(identity_, domain, kNoContext, bytes);
  return {std::move(bytes), signature};
}

void Publisher::publish_initial(const std::filesystem::path& initial) const {
  // A copy: the file is the operator's, and a crash from here on must find it again.
  const core::Digest payload =
      store_.blobs().put(core::read_file(initial, std::numeric_limits<std::int64_t>::max()));
  wire::VersionManifest manifest{.version = 0,
                                 .round = 0,
                                 .mode = initial_mode(config_),
                                 .payload = payload,
                                 .payload_bytes = 0,
                                 .previous_head = {},
                                 .round_root = crypto::merkle_root({}),
                                 .config = core::digest_from_hex(federation_id(config_)),
                                 .head = {}};
  publish(manifest, RoundReport{});
}

wire::VersionManifest Publisher::publish(const OpenRound& round, const AggregatedRound& result,
                                         const RoundReport& report) const {
  std::vector<core::Bytes> leaves;
  leaves.reserve(round.accepted.size());
  for (const auto& [client, update] : round.accepted) leaves.push_back(update.manifest);
  wire::VersionManifest manifest{.version = round.plan.base_version + 1,
                                 .round = round.plan.round,
                                 .mode = result.mode,
                                 .payload = store_.blobs().adopt(result.payload),
                                 .payload_bytes = 0,
                                 .previous_head = round.plan.base_head,
                                 .round_root = crypto::merkle_root(leaves),
                                 .config = core::digest_from_hex(round.plan.federation),
                                 .head = {},
                                 .roster = round.plan.roster};
  publish(manifest, report);
  return manifest;
}

void Publisher::publish(wire::VersionManifest& manifest, const RoundReport& report) const {
  manifest.payload_bytes = store_.blobs().size(manifest.payload);
  manifest.head = crypto::chain_head(manifest.previous_head, manifest.round_root, manifest.payload,
                                     manifest.config, manifest.roster.digest);
  store_.publish(manifest, sign("version", wire::encode(manifest)), report);
}

}  // namespace drystone::coordinator
