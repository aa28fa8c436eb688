#include "crypto/hkdf.h"

#include <doctest/doctest.h>

#include "core/error.h"

using namespace drystone;
using core::from_hex;
using core::to_hex;

TEST_CASE("hkdf_sha256: RFC 5869 test cases 1 to 3") {
  const core::Bytes key(22, 0x0b);
  CHECK(to_hex(crypto::hkdf_sha256(key, from_hex("000102030405060708090a0b0c"),
                                   from_hex("f0f1f2f3f4f5f6f7f8f9"), 42)
                   .view()) ==
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
  core::Bytes long_key;
  core::Bytes salt;
  core::Bytes info;
  for (int i = 0; i < 80; ++i) {
    long_key.push_back(static_cast<std::uint8_t>(i));
    salt.push_back(static_cast<std::uint8_t>(0x60 + i));
    info.push_back(static_cast<std::uint8_t>(0xb0 + i));
  }
  CHECK(to_hex(crypto::hkdf_sha256(long_key, salt, info, 82).view()) ==
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65"
        "e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87");
  CHECK(to_hex(crypto::hkdf_sha256(key, {}, {}, 42).view()) ==
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
}

TEST_CASE("hkdf_sha256: refuses impossible lengths") {
  CHECK_THROWS_AS(crypto::hkdf_sha256({}, {}, {}, 0), core::InvalidArgument);
  CHECK_THROWS_AS(crypto::hkdf_sha256({}, {}, {}, 255 * 32 + 1), core::InvalidArgument);
  CHECK(crypto::hkdf_sha256({}, {}, {}, 255 * 32).view().size() == 255 * 32);
}

TEST_CASE("SecretBytes: moves leave nothing behind, comparison sees every byte") {
  crypto::SecretBytes secret(core::Bytes{1, 2, 3});
  crypto::SecretBytes moved = std::move(secret);
  CHECK(secret.view().empty());  // NOLINT(bugprone-use-after-move): this is what is tested
  const crypto::SecretBytes copy = moved.clone();
  CHECK(crypto::equal_constant_time(copy.view(), moved.view()));
  CHECK_FALSE(crypto::equal_constant_time(copy.view(), core::Bytes{1, 2, 4}));
  CHECK_FALSE(crypto::equal_constant_time(copy.view(), core::Bytes{1, 2}));
  secret = std::move(moved);
  CHECK(crypto::equal_constant_time(copy.view(), secret.view()));
  CHECK(moved.view().empty());  // NOLINT(bugprone-use-after-move): this is what is tested
}
