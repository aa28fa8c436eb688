#include "client/version_check.h"

#include <doctest/doctest.h>

#include "client/plan_check.h"
#include "core/error.h"
#include "crypto/hash.h"
#include "crypto/identity.h"

namespace drystone::client {
namespace {

const crypto::Identity kCoordinator =
    crypto::derive_identity("coordinator", core::as_bytes("version check"));
const crypto::PublicKey kSigner = kCoordinator.public_part.signing;

wire::Signed version(std::uint64_t number, bool fits_head = true) {
  wire::VersionManifest manifest{.version = number, .round = number, .payload_bytes = 1};
  manifest.head = crypto::chain_head(manifest.previous_head, manifest.round_root, manifest.payload,
                                     manifest.config);
  if (!fits_head) manifest.head[0] ^= 1;
  core::Bytes bytes = wire::encode(manifest);
  const crypto::Signature signature = crypto::sign(kCoordinator, "version", core::Digest{}, bytes);
  return {std::move(bytes), signature};
}

TEST_CASE("CheckedVersions: remembers what was signed, and nothing else by it") {
  CheckedVersions checked;
  const wire::Signed entry = version(3);
  CHECK(checked.check(entry, kSigner).version == 3);
  CHECK(checked.check(entry, kSigner).version == 3);
  CHECK(check_version(entry, kSigner).version == 3);

  wire::Signed other_bytes = entry;
  other_bytes.bytes.back() ^= 1;
  CHECK_THROWS_AS(checked.check(other_bytes, kSigner), core::Error);
  wire::Signed other_signature = entry;
  other_signature.signature = version(4).signature;
  CHECK_THROWS_AS(checked.check(other_signature, kSigner), core::Error);
  CHECK_THROWS_WITH_AS(checked.check(version(5, /*fits_head=*/false), kSigner),
                       doctest::Contains("version 5 does not hash to its head"), core::Error);
  CHECK(checked.check(version(4), kSigner).version == 4);
}

TEST_CASE("CheckedPlans: remembers what was signed, and nothing else by it") {
  const auto signed_plan = [](std::uint64_t round) {
    core::Bytes bytes = wire::encode(wire::RoundPlan{.round = round, .cohort = {"a"}});
    const crypto::Signature signature = crypto::sign(kCoordinator, "plan", core::Digest{}, bytes);
    return wire::Signed{std::move(bytes), signature};
  };
  CheckedPlans checked;
  const wire::Signed first = signed_plan(1);
  const PlanPtr plan = checked.check(first, kSigner);
  CHECK(plan->round == 1);
  CHECK(plan->transcript == wire::transcript(first.bytes));
  CHECK(checked.check(first, kSigner) == plan);

  wire::Signed other_bytes = first;
  other_bytes.bytes.back() ^= 1;
  CHECK_THROWS_AS(checked.check(other_bytes, kSigner), core::Error);
  wire::Signed other_signature = first;
  other_signature.signature = signed_plan(2).signature;
  CHECK_THROWS_AS(checked.check(other_signature, kSigner), core::Error);
  CHECK(checked.check(signed_plan(2), kSigner)->round == 2);
  CHECK(checked.check(first, kSigner)->round == 1);
}

}  // namespace
}  // namespace drystone::client
