#include "client/version_check.h"

#include <string>

#include "client/contract.h"
#include "crypto/hash.h"
#include "crypto/identity.h"

namespace drystone::client {

wire::VersionManifest check_version(const wire::Signed& entry, const crypto::PublicKey& signer) {
  constexpr core::Digest kNoContext{};
  if (!crypto::verify(signer, "version", kNoContext, entry.bytes, entry.signature)) {
    distrust("a published version is not signed by the coordinator's key");
  }
  auto manifest = wire::decode_version(entry.bytes);
  if (!manifest) distrust("unreadable version manifest: " + manifest.error().detail);
  if (manifest->head != crypto::chain_head(manifest->previous_head, manifest->round_root,
                                           manifest->payload, manifest->config,
                                           manifest->roster.digest)) {
    distrust("version " + std::to_string(manifest->version) + " does not hash to its head");
  }
  return *manifest;
}

const wire::VersionManifest& CheckedVersions::check(const wire::Signed& entry,
                                                    const crypto::PublicKey& signer) {
  const std::pair key(entry.bytes, entry.signature);
  const auto found = known_.find(key);
  if (found != known_.end()) return found->second;
  return known_.emplace(key, check_version(entry, signer)).first->second;
}

}  // namespace drystone::client
