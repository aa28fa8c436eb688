#pragma once
// What a party asks a coordinator's operator for: to be let in under a name with a key of its own,
// or to have another key under the name that it has (NAME.request, TOML).

#include <filesystem>
#include <optional>
#include <string>

#include "crypto/identity.h"

namespace drystone::crypto {

struct KeyRequest {
  PublicIdentity identity;
  std::optional<PublicKey> replaces;  ///< signing key that `identity` takes the place of
};

/// Writes a request, signed with the key that it tells, and with the key that it replaces.
/// @param replaced  the party's identity until now; nullptr: it has none
/// @throws core::IoError
void save_request(const Identity& identity, const Identity* replaced,
                  const std::filesystem::path& file);

/// @throws core::IoError  unreadable, or longer than 4 KiB
/// @throws core::ConfigError  `FILE:LINE: …`: not such a text, or a signature that does not verify
KeyRequest load_request(const std::filesystem::path& file);

/// For two people to compare, e.g. by telephone: 16 bytes of a hash of both keys, in groups.
std::string fingerprint(const PublicIdentity& identity);

}  // namespace drystone::crypto
