#pragma once
// HKDF-SHA256 (RFC 5869).

#include <cstddef>

#include "core/bytes.h"
#include "crypto/secret_bytes.h"

namespace drystone::crypto {

/// `length` bytes (1 … 8160) from the key material; the same inputs give the same bytes.
/// @throws core::InvalidArgument  length out of range  @throws core::CryptoError  OpenSSL failed
SecretBytes hkdf_sha256(core::ByteView key, core::ByteView salt, core::ByteView info,
                        std::size_t length);

}  // namespace drystone::crypto
