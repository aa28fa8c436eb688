#include "crypto/identity.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "crypto/hkdf.h"
#include "crypto/names.h"

namespace drystone::crypto {

namespace {

Identity make_identity(const std::string& name, SecretBytes curve, SecretBytes signing) {
  core::require(is_party_name(name),
                "identity: '" + name + "' is not a name; " + std::string(kPartyNameRule));
  PublicIdentity public_part{.name = name,
                             .curve = public_key_of(Curve::X25519, curve.view()),
                             .signing = public_key_of(Curve::Ed25519, signing.view())};
  return {.public_part = std::move(public_part),
          .curve_secret = std::move(curve),
          .signing_secret = std::move(signing)};
}

SecretBytes derive_secret(std::string_view purpose, const std::string& name, core::ByteView seed) {
  const std::string info = std::string(purpose) + '\0' + name;
  return hkdf_sha256(seed, core::as_bytes("drystone-identity-v1"), core::as_bytes(info), 32);
}

core::Bytes signed_bytes(std::string_view domain, const core::Digest& context,
                         core::ByteView message) {
  const std::string header = std::string("drystone-v1") + '\0' + std::string(domain) + '\0';
  core::Bytes bytes(header.size() + context.size() + message.size());
  auto end = std::ranges::copy(header, bytes.begin()).out;
  end = std::ranges::copy(context, end).out;
  std::ranges::copy(message, end);
  return bytes;
}

}  // namespace

Identity generate_identity(const std::string& name) {
  return make_identity(name, generate_secret(Curve::X25519), generate_secret(Curve::Ed25519));
}

Identity derive_identity(const std::string& name, core::ByteView seed) {
  return make_identity(name, derive_secret("curve", name, seed),
                       derive_secret("signing", name, seed));
}

Identity restore_identity(const std::string& name, SecretBytes curve_secret,
                          SecretBytes signing_secret) {
  return make_identity(name, std::move(curve_secret), std::move(signing_secret));
}

Signature sign(const Identity& identity, std::string_view domain, const core::Digest& context,
               core::ByteView message) {
  core::require(!domain.empty() && domain.find('\0') == std::string_view::npos,
                "sign: the domain must be a word without NUL");
  return ed25519_sign(identity.signing_secret.view(), signed_bytes(domain, context, message));
}

bool verify(const PublicKey& signer, std::string_view domain, const core::Digest& context,
            core::ByteView message, const Signature& signature) {
  return ed25519_verify(signer, signed_bytes(domain, context, message), signature);
}

}  // namespace drystone::crypto
