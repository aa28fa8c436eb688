#pragma once
// Whether a published version is what the coordinator signed.

#include <map>
#include <utility>

#include "core/bytes.h"
#include "crypto/key_pairs.h"
#include "wire/messages.h"

namespace drystone::client {

/// The manifest behind an entry of a catalog. @throws core::Error  it is not signed by `signer`,
/// not readable, or does not hash to its head
wire::VersionManifest check_version(const wire::Signed& entry, const crypto::PublicKey& signer);

/// Remembers what was checked, for sessions of one process that follow one coordinator.
class CheckedVersions {
 public:
  /// As check_version, which looks at the same bytes and signature once.
  const wire::VersionManifest& check(const wire::Signed& entry, const crypto::PublicKey& signer);

 private:
  std::map<std::pair<core::Bytes, crypto::Signature>, wire::VersionManifest> known_;
};

}  // namespace drystone::client
