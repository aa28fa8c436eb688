#pragma once
// Internal to crypto (included by its .cpp files only): owners and error reports for OpenSSL
// objects.

#include <memory>
#include <string>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

#include "core/error.h"

namespace drystone::crypto {

template <auto kFree>
struct OpenSslDeleter {
  template <typename T>
  void operator()(T* object) const noexcept {
    kFree(object);
  }
};

using MdContext = std::unique_ptr<EVP_MD_CTX, OpenSslDeleter<EVP_MD_CTX_free>>;
using Key = std::unique_ptr<EVP_PKEY, OpenSslDeleter<EVP_PKEY_free>>;
using Kdf = std::unique_ptr<EVP_KDF, OpenSslDeleter<EVP_KDF_free>>;
using KdfContext = std::unique_ptr<EVP_KDF_CTX, OpenSslDeleter<EVP_KDF_CTX_free>>;

/// @throws core::CryptoError  naming `operation` and OpenSSL's reason, unless `succeeded`
inline void check_openssl(bool succeeded, const char* operation) {
  if (succeeded) return;
  const char* reason = ERR_reason_error_string(ERR_get_error());
  ERR_clear_error();
  throw core::CryptoError(std::string(operation) + ": " + (reason ? reason : "OpenSSL failed"));
}

}  // namespace drystone::crypto
