#include "crypto/hash.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "core/error.h"

using namespace drystone;
using core::as_bytes;
using core::to_hex;

namespace {

/// RFC 6962, 2.1, word for word: the recursive definition that the level-by-level code must equal.
core::Digest recursive_root(std::span<const core::Bytes> leaves) {
  if (leaves.empty()) return crypto::sha256({});
  core::Bytes input;
  if (leaves.size() == 1) {
    input.push_back(0);
    input.insert(input.end(), leaves[0].begin(), leaves[0].end());
    return crypto::sha256(input);
  }
  std::size_t split = 1;
  while (split * 2 < leaves.size()) split *= 2;
  const core::Digest left = recursive_root(leaves.first(split));
  const core::Digest right = recursive_root(leaves.subspan(split));
  input.push_back(1);
  input.insert(input.end(), left.begin(), left.end());
  input.insert(input.end(), right.begin(), right.end());
  return crypto::sha256(input);
}

}  // namespace

TEST_CASE("sha256: FIPS 180-4 examples") {
  CHECK(to_hex(crypto::sha256(as_bytes("abc"))) ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(to_hex(crypto::sha256({})) ==
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(to_hex(
            crypto::sha256(as_bytes("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"))) ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST_CASE("Sha256: a million letters in uneven pieces hash as FIPS 180-4 says") {
  const std::string letters(1'000'000, 'a');
  crypto::Sha256 hasher;
  std::size_t offset = 0;
  for (std::size_t step = 1; offset < letters.size(); step = step * 3 + 1) {
    const std::string_view piece = std::string_view(letters).substr(offset, step);
    hasher.update(as_bytes(piece));
    offset += piece.size();
  }
  CHECK(to_hex(hasher.finish()) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  CHECK_THROWS_AS(hasher.finish(), core::InvalidArgument);
  CHECK_THROWS_AS(hasher.update({}), core::InvalidArgument);
}

TEST_CASE("merkle_root: RFC 6962 test tree") {
  const std::vector<std::string> inputs = {"",
                                           "00",
                                           "10",
                                           "2021",
                                           "3031",
                                           "40414243",
                                           "5051525354555657",
                                           "606162636465666768696a6b6c6d6e6f"};
  const std::vector<std::string> roots = {
      "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
      "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
      "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
      "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
      "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
      "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
      "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
      "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};
  std::vector<core::Bytes> leaves;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    CAPTURE(i);
    leaves.push_back(core::from_hex(inputs[i]));
    CHECK(to_hex(crypto::merkle_root(leaves)) == roots[i]);
  }
}

TEST_CASE("merkle_root: equals RFC 6962's recursion for every size up to 130") {
  std::vector<core::Bytes> leaves;
  for (std::size_t size = 0; size <= 130; ++size) {
    CAPTURE(size);
    CHECK(crypto::merkle_root(leaves) == recursive_root(leaves));
    leaves.push_back({static_cast<std::uint8_t>(size), 7});
  }
}

TEST_CASE("chain_head: every part and its place matters") {
  const core::Digest a = crypto::sha256(as_bytes("a"));
  const core::Digest b = crypto::sha256(as_bytes("b"));
  const core::Digest head = crypto::chain_head(a, a, a, a);
  CHECK(head != crypto::chain_head(b, a, a, a));
  CHECK(head != crypto::chain_head(a, b, a, a));
  CHECK(head != crypto::chain_head(a, a, b, a));
  CHECK(head != crypto::chain_head(a, a, a, b));
  CHECK(crypto::chain_head(b, a, a, a) != crypto::chain_head(a, b, a, a));

  core::Bytes input;
  for (const char c : std::string_view("drystone-head-v1")) {
    input.push_back(static_cast<std::uint8_t>(c));
  }
  for (const core::Digest& part : {a, b, b, a}) input.insert(input.end(), part.begin(), part.end());
  CHECK(crypto::chain_head(a, b, b, a) == crypto::sha256(input));

  input[std::string_view("drystone-head-v").size()] = '2';
  input.insert(input.end(), b.begin(), b.end());
  CHECK(crypto::chain_head(a, b, b, a, b) == crypto::sha256(input));
  CHECK(crypto::chain_head(a, b, b, a, {}) == crypto::chain_head(a, b, b, a));
}
