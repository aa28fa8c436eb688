#pragma once
// A party's two key pairs: CURVE (X25519) for the transport, Ed25519 for signatures.

#include <filesystem>
#include <string>
#include <string_view>

#include "core/bytes.h"
#include "crypto/key_pairs.h"
#include "crypto/secret_bytes.h"

namespace drystone::crypto {

/// What others may know of a party: NAME.pub (TOML).
struct PublicIdentity {
  std::string name;
  PublicKey curve{};    ///< X25519, as ZeroMQ CURVE uses it
  PublicKey signing{};  ///< Ed25519
};

/// The whole of a party's keys: NAME.key (TOML, mode 0600). Neither copied nor logged.
struct Identity {
  PublicIdentity public_part;
  SecretBytes curve_secret;    ///< 32 bytes
  SecretBytes signing_secret;  ///< 32 bytes, Ed25519 seed
};

/// Fresh keys from OpenSSL's generator.
Identity generate_identity(const std::string& name);

/// Keys derived from `seed` by HKDF-SHA256: for simulations and tests only, never for deployment.
Identity derive_identity(const std::string& name, core::ByteView seed);

/// The identity that two stored secrets of 32 bytes stand for.
/// @throws core::InvalidArgument  not a party's name (crypto/names.h)  @throws core::CryptoError
Identity restore_identity(const std::string& name, SecretBytes curve_secret,
                          SecretBytes signing_secret);

/// Writes DIR/NAME.key (mode 0600, never overwriting) and DIR/NAME.pub.
/// @throws core::IoError  a file exists or cannot be written
void save_identity(const Identity& identity, const std::filesystem::path& dir);

/// @param path  without suffix, or with .key or .pub
/// @throws core::IoError | core::ConfigError  names file and remedy; a key file that other users
///         may read, or that does not belong to the .pub beside it, is refused
Identity load_identity(const std::filesystem::path& path);
PublicIdentity load_public_identity(const std::filesystem::path& path);

/// Signature over "drystone-v1" ‖ 0x00 ‖ domain ‖ 0x00 ‖ context ‖ message: `domain` ("update",
/// "plan", "version", "evaluation") keeps one message kind from passing as another, `context` is
/// the round's transcript hash T_r.
Signature sign(const Identity& identity, std::string_view domain, const core::Digest& context,
               core::ByteView message);

/// Constant-time check of `sign`; false for anything wrong.
bool verify(const PublicKey& signer, std::string_view domain, const core::Digest& context,
            core::ByteView message, const Signature& signature);

}  // namespace drystone::crypto
