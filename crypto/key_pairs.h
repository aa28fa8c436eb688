#pragma once
// Raw 32-byte keys of the two curves, X25519 (RFC 7748, transport) and Ed25519 (RFC 8032), and the
// plain Ed25519 signature below crypto::sign.

#include <array>
#include <cstdint>

#include "core/bytes.h"
#include "crypto/secret_bytes.h"

namespace drystone::crypto {

using Signature = std::array<std::uint8_t, 64>;
using PublicKey = std::array<std::uint8_t, 32>;

enum class Curve { X25519, Ed25519 };

/// A fresh secret from OpenSSL's generator. @throws core::CryptoError
SecretBytes generate_secret(Curve curve);

/// The public key that belongs to a secret of 32 bytes. @throws core::CryptoError
PublicKey public_key_of(Curve curve, core::ByteView secret);

/// Pure Ed25519 over exactly `message`: use crypto::sign, which binds domain and context.
Signature ed25519_sign(core::ByteView secret, core::ByteView message);
bool ed25519_verify(const PublicKey& signer, core::ByteView message, const Signature& signature);

}  // namespace drystone::crypto
