#include "crypto/hash.h"

#include <string_view>
#include <utility>
#include <vector>

#include "core/check.h"
#include "crypto/openssl.h"

namespace drystone::crypto {

namespace {

/// Found once, for the whole life of the process: OpenSSL looks for EVP_sha256() at every use.
const EVP_MD* method() {
  static const EVP_MD* const found = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  check_openssl(found != nullptr, "sha256");
  return found;
}

}  // namespace

struct Sha256::State {
  MdContext context;
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  state_->context.reset(EVP_MD_CTX_new());
  check_openssl(state_->context != nullptr, "sha256");
  check_openssl(EVP_DigestInit_ex2(state_->context.get(), method(), nullptr) == 1, "sha256");
}

Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(core::ByteView bytes) {
  core::require(state_ != nullptr, "Sha256::update: the hasher is spent");
  check_openssl(EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size()) == 1, "sha256");
}

core::Digest Sha256::finish() {
  core::require(state_ != nullptr, "Sha256::finish: the hasher is spent");
  core::Digest digest{};
  unsigned int size = 0;
  check_openssl(EVP_DigestFinal_ex(state_->context.get(), digest.data(), &size) == 1, "sha256");
  core::ensure(size == digest.size(), "sha256: unexpected digest size");
  state_.reset();
  return digest;
}

core::Digest sha256(core::ByteView bytes) {
  core::Digest digest{};
  check_openssl(
      EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, method(), nullptr) == 1,
      "sha256");
  return digest;
}

core::Digest merkle_root(std::span<const core::Bytes> leaves) {
  if (leaves.empty()) return sha256({});
  constexpr std::uint8_t kLeaf = 0;
  constexpr std::uint8_t kNode = 1;
  std::vector<core::Digest> level;
  level.reserve(leaves.size());
  for (const core::Bytes& leaf : leaves) {
    Sha256 hasher;
    hasher.update({&kLeaf, 1});
    hasher.update(leaf);
    level.push_back(hasher.finish());
  }
  while (level.size() > 1) {
    std::vector<core::Digest> parents;
    parents.reserve((level.size() + 1) / 2);
    for (std::size_t i = 0; i + 1 < level.size(); i += 2) {
      Sha256 hasher;
      hasher.update({&kNode, 1});
      hasher.update(level[i]);
      hasher.update(level[i + 1]);
      parents.push_back(hasher.finish());
    }
    if (level.size() % 2 == 1) parents.push_back(level.back());
    level = std::move(parents);
  }
  return level.front();
}

core::Digest chain_head(const core::Digest& previous, const core::Digest& round_root,
                        const core::Digest& result, const core::Digest& config,
                        const core::Digest& roster) {
  const bool has_roster = roster != core::Digest{};
  const std::string_view domain = has_roster ? "drystone-head-v2" : "drystone-head-v1";
  Sha256 hasher;
  hasher.update(core::as_bytes(domain));
  for (const core::Digest* part : {&previous, &round_root, &result, &config}) hasher.update(*part);
  if (has_roster) hasher.update(roster);
  return hasher.finish();
}

}  // namespace drystone::crypto
