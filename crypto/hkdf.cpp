#include "crypto/hkdf.h"

#include <array>
#include <utility>

#include <openssl/core_names.h>
#include <openssl/params.h>

#include "core/check.h"
#include "crypto/openssl.h"

namespace drystone::crypto {

namespace {

/// OpenSSL takes inputs as non-const octets that it only reads; empty ones must not be null.
OSSL_PARAM octets(const char* name, core::ByteView bytes) {
  static std::uint8_t nothing = 0;
  void* data = bytes.empty() ? &nothing : const_cast<std::uint8_t*>(bytes.data());
  return OSSL_PARAM_construct_octet_string(name, data, bytes.size());
}

}  // namespace

SecretBytes hkdf_sha256(core::ByteView key, core::ByteView salt, core::ByteView info,
                        std::size_t length) {
  constexpr std::size_t kMaxLength = 255 * 32;
  core::require(length > 0 && length <= kMaxLength, "hkdf_sha256: length must be 1 to 8160 bytes");
  const Kdf kdf(EVP_KDF_fetch(nullptr, "HKDF", nullptr));
  check_openssl(kdf != nullptr, "hkdf_sha256");
  const KdfContext context(EVP_KDF_CTX_new(kdf.get()));
  check_openssl(context != nullptr, "hkdf_sha256");
  std::array<char, 7> digest = {"SHA256"};
  const std::array<OSSL_PARAM, 5> parameters = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest.data(), 0),
      octets(OSSL_KDF_PARAM_KEY, key), octets(OSSL_KDF_PARAM_SALT, salt),
      octets(OSSL_KDF_PARAM_INFO, info), OSSL_PARAM_construct_end()};
  core::Bytes derived(length);
  check_openssl(
      EVP_KDF_derive(context.get(), derived.data(), derived.size(), parameters.data()) == 1,
      "hkdf_sha256");
  return SecretBytes(std::move(derived));
}

}  // namespace drystone::crypto
