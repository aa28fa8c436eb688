#include "crypto/key_pairs.h"

#include <utility>

#include "core/check.h"
#include "crypto/openssl.h"

namespace drystone::crypto {

namespace {

const char* openssl_name(Curve curve) { return curve == Curve::X25519 ? "X25519" : "ED25519"; }

}  // namespace

SecretBytes generate_secret(Curve curve) {
  const Key key(EVP_PKEY_Q_keygen(nullptr, nullptr, openssl_name(curve)));
  check_openssl(key != nullptr, "generate_secret");
  core::Bytes secret(32);
  std::size_t size = secret.size();
  check_openssl(EVP_PKEY_get_raw_private_key(key.get(), secret.data(), &size) == 1,
                "generate_secret");
  core::ensure(size == secret.size(), "generate_secret: unexpected key size");
  return SecretBytes(std::move(secret));
}

PublicKey public_key_of(Curve curve, core::ByteView secret) {
  const Key key(EVP_PKEY_new_raw_private_key_ex(nullptr, openssl_name(curve), nullptr,
                                                secret.data(), secret.size()));
  check_openssl(key != nullptr, "public_key_of");
  PublicKey result{};
  std::size_t size = result.size();
  check_openssl(EVP_PKEY_get_raw_public_key(key.get(), result.data(), &size) == 1, "public_key_of");
  core::ensure(size == result.size(), "public_key_of: unexpected key size");
  return result;
}

Signature ed25519_sign(core::ByteView secret, core::ByteView message) {
  const Key key(
      EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, secret.data(), secret.size()));
  check_openssl(key != nullptr, "ed25519_sign");
  const MdContext context(EVP_MD_CTX_new());
  check_openssl(context != nullptr, "ed25519_sign");
  check_openssl(EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1,
                "ed25519_sign");
  Signature signature{};
  std::size_t size = signature.size();
  check_openssl(
      EVP_DigestSign(context.get(), signature.data(), &size, message.data(), message.size()) == 1,
      "ed25519_sign");
  core::ensure(size == signature.size(), "ed25519_sign: unexpected signature size");
  return signature;
}

bool ed25519_verify(const PublicKey& signer, core::ByteView message, const Signature& signature) {
  const Key key(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, signer.data(), signer.size()));
  const MdContext context(EVP_MD_CTX_new());
  const bool is_valid =
      key != nullptr && context != nullptr &&
      EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
      EVP_DigestVerify(context.get(), signature.data(), signature.size(), message.data(),
                       message.size()) == 1;
  ERR_clear_error();  // a bad signature is ordinary: leave no error behind for the next caller
  return is_valid;
}

}  // namespace drystone::crypto
