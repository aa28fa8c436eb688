#include "crypto/key_request.h"

#include <algorithm>

#include "core/files.h"
#include "crypto/hash.h"
#include "crypto/names.h"
#include "crypto/toml_document.h"

namespace drystone::crypto {

namespace {

constexpr std::uint64_t kMaxRequestBytes = 4 << 10;
constexpr core::Digest kNoContext{};
constexpr const char* kDamaged =
    "does not verify: the file was edited or damaged; have it sent again as "
    "`drystone keys` wrote it";

std::string line(std::string_view key, std::string_view value) {
  return std::string(key) + " = \"" + std::string(value) + "\"\n";
}

/// What is signed is what the file says.
std::string signed_text(const KeyRequest& request) {
  std::string text = line("name", request.identity.name) +
                     line("curve", core::to_hex(request.identity.curve)) +
                     line("signing", core::to_hex(request.identity.signing));
  if (request.replaces) text += line("replaces", core::to_hex(*request.replaces));
  return text;
}

template <typename Fixed>
Fixed fixed(const TomlTable& table, std::string_view key) {
  Fixed value{};
  std::ranges::copy(table.hex(key, value.size()), value.begin());
  return value;
}

void check_signature(const TomlTable& table, std::string_view key, const PublicKey& signer,
                     const std::string& text) {
  const auto signature = fixed<Signature>(table, key);
  if (!verify(signer, "request", kNoContext, core::as_bytes(text), signature)) {
    table.fail(key, kDamaged);
  }
}

}  // namespace

void save_request(const Identity& identity, const Identity* replaced,
                  const std::filesystem::path& file) {
  KeyRequest request{.identity = identity.public_part, .replaces = {}};
  if (replaced != nullptr) request.replaces = replaced->public_part.signing;
  const std::string text = signed_text(request);
  const auto signature_line = [&](std::string_view key, const Identity& signer) {
    return line(key, core::to_hex(sign(signer, "request", kNoContext, core::as_bytes(text))));
  };
  std::string content = "# For the coordinator's operator: drystone keys approve FILE\n" + text +
                        signature_line("signature", identity);
  if (replaced != nullptr) content += signature_line("consent", *replaced);
  core::write_file_atomic(file, core::as_bytes(content));
}

KeyRequest load_request(const std::filesystem::path& file) {
  const TomlTable table = read_toml(file, kMaxRequestBytes);
  table.allow_only({"name", "curve", "signing", "replaces", "signature", "consent"});
  if (table.find("signature") == nullptr) {
    table.fail("signature", "missing: this is no request; `drystone keys request` makes one");
  }
  KeyRequest request{.identity = {.name = table.text("name"),
                                  .curve = fixed<PublicKey>(table, "curve"),
                                  .signing = fixed<PublicKey>(table, "signing")},
                     .replaces = {}};
  if (!is_party_name(request.identity.name)) table.fail("name", kPartyNameRule);
  if (table.find("replaces") != nullptr) request.replaces = fixed<PublicKey>(table, "replaces");
  const std::string text = signed_text(request);
  check_signature(table, "signature", request.identity.signing, text);
  if (request.replaces) check_signature(table, "consent", *request.replaces, text);
  return request;
}

std::string fingerprint(const PublicIdentity& identity) {
  constexpr std::size_t kDigits = 32;
  constexpr std::size_t kGroup = 4;
  core::Bytes keys(identity.curve.begin(), identity.curve.end());
  keys.insert(keys.end(), identity.signing.begin(), identity.signing.end());
  const std::string hex = core::to_hex(sha256(keys)).substr(0, kDigits);
  std::string text;
  for (std::size_t i = 0; i < hex.size(); i += kGroup) {
    text += (i == 0 ? "" : "-") + hex.substr(i, kGroup);
  }
  return text;
}

}  // namespace drystone::crypto
