#include "crypto/identity.h"

#include <csignal>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "crypto/hash.h"
#include "crypto/key_pairs.h"
#include "crypto/names.h"
#include "crypto/toml_document.h"
#include "tests/temporary_folder.h"

using namespace drystone;
using core::as_bytes;
using core::from_hex;
using core::to_hex;
namespace fs = std::filesystem;

namespace {

std::string message_of(const auto& action) {
  try {
    action();
  } catch (const core::Error& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::ptrdiff_t num_open_files() {
  return std::distance(fs::directory_iterator("/proc/self/fd"), {});
}

crypto::Identity with_seed(const std::string& text) {
  return crypto::derive_identity("client-1", as_bytes(text));
}

}  // namespace

TEST_CASE("public_key_of, ed25519_sign: RFC 7748 and RFC 8032 vectors") {
  using crypto::Curve;
  CHECK(to_hex(crypto::public_key_of(
            Curve::X25519,
            from_hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))) ==
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
  struct Vector {
    std::string secret, public_key, message, signature;
  };
  const Vector vectors[] = {
      {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
       "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
       "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701c"
       "f9b46bd25bf5f0595bbe24655141438e7a100b"},
      {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
       "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
       "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0"
       "f11d8c387b2eaeb4302aeeb00d291612bb0c00"}};
  for (const Vector& vector : vectors) {
    const core::Bytes secret = from_hex(vector.secret);
    const crypto::PublicKey key = crypto::public_key_of(Curve::Ed25519, secret);
    CHECK(to_hex(key) == vector.public_key);
    const crypto::Signature signature = crypto::ed25519_sign(secret, from_hex(vector.message));
    CHECK(to_hex(signature) == vector.signature);
    CHECK(crypto::ed25519_verify(key, from_hex(vector.message), signature));
  }
}

TEST_CASE("derive_identity: the seed and the name decide, and nothing else") {
  const crypto::Identity first = with_seed("seed");
  CHECK(first.public_part.curve == with_seed("seed").public_part.curve);
  CHECK(first.public_part.signing == with_seed("seed").public_part.signing);
  CHECK(first.public_part.curve != with_seed("seee").public_part.curve);
  const crypto::Identity other = crypto::derive_identity("client-2", as_bytes("seed"));
  CHECK(first.public_part.curve != other.public_part.curve);
  CHECK(first.public_part.signing != other.public_part.signing);
  CHECK(to_hex(first.curve_secret.view()) != to_hex(first.signing_secret.view()));
}

TEST_CASE("generate_identity: never the same keys twice; bad names are refused") {
  std::set<crypto::PublicKey> keys;
  for (int i = 0; i < 20; ++i) {
    const crypto::Identity identity = crypto::generate_identity("x");
    keys.insert(identity.public_part.curve);
    keys.insert(identity.public_part.signing);
  }
  CHECK(keys.size() == 40);
  for (const std::string name : {"", "../x", ".x", "a/b", "a b", "a\"b", "a\nb"}) {
    CAPTURE(name);
    CHECK_THROWS_AS(crypto::generate_identity(name), core::InvalidArgument);
  }
  CHECK_THROWS_AS(crypto::generate_identity(std::string(129, 'a')), core::InvalidArgument);
}

TEST_CASE("is_party_name: letters, digits, and between them points, dashes and underscores") {
  for (const std::string name : {"a", "z", "A", "Z", "0", "9", "a.", "a-", "a_", "9.b-C_d"}) {
    CAPTURE(name);
    CHECK(crypto::is_party_name(name));
  }
  CHECK(crypto::is_party_name(std::string(128, 'a')));
  for (const std::string name :
       {"`", "{", "@", "[", "/", ":", "a`", "a{", "a@", "a[", "a/", "a:"}) {
    CAPTURE(name);
    CHECK_FALSE(crypto::is_party_name(name));
  }
}

TEST_CASE("sign: bound to signer, domain, context and message") {
  const crypto::Identity alice = with_seed("alice");
  const core::Digest round = crypto::sha256(as_bytes("round 1"));
  const core::Bytes message = from_hex("00112233");
  const crypto::Signature signature = crypto::sign(alice, "update", round, message);
  const crypto::PublicKey& key = alice.public_part.signing;
  CHECK(crypto::verify(key, "update", round, message, signature));
  CHECK(signature == crypto::sign(alice, "update", round, message));

  CHECK_FALSE(
      crypto::verify(with_seed("bob").public_part.signing, "update", round, message, signature));
  CHECK_FALSE(crypto::verify(key, "plan", round, message, signature));
  CHECK_FALSE(
      crypto::verify(key, "update", crypto::sha256(as_bytes("round 2")), message, signature));
  CHECK_FALSE(crypto::verify(key, "update", round, from_hex("00112234"), signature));
  CHECK_FALSE(crypto::verify(key, "update", round, {}, signature));
  CHECK_FALSE(crypto::verify({}, "update", round, message, signature));
  for (std::size_t bit = 0; bit < signature.size() * 8; ++bit) {
    crypto::Signature bad = signature;
    bad[bit / 8] ^= static_cast<std::uint8_t>(1U << (bit % 8));
    CHECK_FALSE(crypto::verify(key, "update", round, message, bad));
  }
  CHECK_THROWS_AS(crypto::sign(alice, "", round, message), core::InvalidArgument);
  CHECK_THROWS_AS(crypto::sign(alice, std::string("a\0b", 3), round, message),
                  core::InvalidArgument);
}

TEST_CASE("save_identity: comes back equal, private whatever the umask, never overwritten") {
  const test::TemporaryFolder folder;
  const crypto::Identity identity = with_seed("seed");
  for (const mode_t mask : {0U, 022U, 0777U}) {
    CAPTURE(mask);
    const fs::path dir = folder.path() / std::to_string(mask);
    fs::create_directories(dir);
    const std::ptrdiff_t num_open = num_open_files();
    const mode_t old_mask = ::umask(mask);
    crypto::save_identity(identity, dir);
    ::umask(old_mask);
    struct stat status{};
    REQUIRE(::stat((dir / "client-1.key").c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);

    CHECK(num_open_files() == num_open);
    const crypto::Identity loaded = crypto::load_identity(dir / "client-1");
    CHECK(loaded.public_part.name == "client-1");
    CHECK(crypto::equal_constant_time(loaded.curve_secret.view(), identity.curve_secret.view()));
    CHECK(loaded.public_part.signing == identity.public_part.signing);
    const crypto::PublicIdentity known = crypto::load_public_identity(dir / "client-1.pub");
    CHECK(known.curve == identity.public_part.curve);
    CHECK(known.signing == identity.public_part.signing);
    CHECK(crypto::load_public_identity(dir / "client-1.key").name == "client-1");
    CHECK_THROWS_AS(crypto::save_identity(identity, dir), core::IoError);
  }
  fs::remove(folder.path() / "0" / "client-1.key");
  CHECK_THROWS_AS(crypto::save_identity(identity, folder.path() / "0"), core::IoError);
  CHECK_FALSE(fs::exists(folder.path() / "0" / "client-1.key"));
}

TEST_CASE("save_identity: makes the folder that is not there") {
  const test::TemporaryFolder folder;
  crypto::save_identity(with_seed("seed"), folder.path() / "a" / "b");
  CHECK(crypto::load_identity(folder.path() / "a" / "b" / "client-1").public_part.name ==
        "client-1");
}

TEST_CASE("save_identity: a key that the disk does not take whole is not left behind") {
  const test::TemporaryFolder folder;
  rlimit whole{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &whole) == 0);
  const rlimit little = {.rlim_cur = 100, .rlim_max = whole.rlim_max};
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &little);
  const std::string message =
      message_of([&] { crypto::save_identity(with_seed("seed"), folder.path()); });
  ::setrlimit(RLIMIT_FSIZE, &whole);
  std::signal(SIGXFSZ, handler);
  CHECK(contains(message, "client-1.key: cannot be written (File too large)"));
  CHECK(fs::is_empty(folder.path()));
}

TEST_CASE("save_identity: does not write through a link") {
  const test::TemporaryFolder folder;
  fs::create_symlink(folder.path() / "elsewhere", folder.path() / "client-1.key");
  CHECK_THROWS_AS(crypto::save_identity(with_seed("s"), folder.path()), core::IoError);
  CHECK_FALSE(fs::exists(folder.path() / "elsewhere"));
}

TEST_CASE("load_identity: an open, missing or damaged key names file and remedy") {
  const test::TemporaryFolder folder;
  const fs::path key = folder.path() / "client-1.key";
  CHECK_THROWS_AS(crypto::load_identity(key), core::IoError);
  CHECK(contains(message_of([&] { crypto::load_identity(key); }), "drystone keys new"));
  crypto::save_identity(with_seed("seed"), folder.path());
  for (const mode_t mode : {0640U, 0604U, 0620U}) {
    CAPTURE(mode);
    REQUIRE(::chmod(key.c_str(), mode) == 0);
    CHECK_THROWS_AS(crypto::load_identity(key), core::ConfigError);
    CHECK(contains(message_of([&] { crypto::load_identity(key); }), "chmod 600 " + key.string()));
  }
  const auto complaint = [&](const std::string& text) {
    std::ofstream(key) << text;
    REQUIRE(::chmod(key.c_str(), 0600) == 0);
    CHECK_THROWS_AS(crypto::load_identity(key), core::ConfigError);
    return message_of([&] { crypto::load_identity(key); });
  };
  CHECK(
      contains(complaint("name = \"a\"\ncurve_secret = \"12\"\n"), "client-1.key:2: curve_secret"));
  CHECK(contains(complaint("name = \"a\"\nother = 1\n"), "client-1.key:2: other: unknown key"));
  CHECK(contains(complaint("name = \"a\"\n\nname = [\n"), "client-1.key:"));
  const std::string zeros(64, '0');
  CHECK(contains(complaint("name = \"../a\"\ncurve_secret = \"" + zeros +
                           "\"\nsigning_secret = \"" + zeros + "\"\n"),
                 "client-1.key:1: name"));
  const std::string not_hex =
      complaint("name = \"a\"\ncurve_secret = \"" + std::string(64, 'g') + "\"\n");
  CHECK(contains(not_hex, "hexadecimal"));
  CHECK_FALSE(contains(not_hex, "ggg"));  // a complaint never quotes key material
}

TEST_CASE("load_identity: a key of another party than the .pub beside it is refused") {
  const test::TemporaryFolder folder;
  crypto::save_identity(with_seed("seed"), folder / "own");
  crypto::save_identity(with_seed("other"), folder / "other");
  const fs::path key = folder / "own" / "client-1.key";
  const fs::path known = folder / "own" / "client-1.pub";
  fs::copy_file(folder / "other" / "client-1.pub", known, fs::copy_options::overwrite_existing);
  CHECK_THROWS_AS(crypto::load_identity(key), core::ConfigError);
  CHECK(message_of([&] { crypto::load_identity(key); }) ==
        key.string() + ": does not belong to " + known.string() +
            " beside it; restore the two files that were made together");
  fs::remove(known);
  crypto::load_identity(key);
}

TEST_CASE("load_public_identity: a file with more than public keys is refused") {
  const test::TemporaryFolder folder;
  crypto::save_identity(with_seed("seed"), folder.path());
  std::ofstream(folder.path() / "client-1.pub", std::ios::app) << "curve_secret = \"00\"\n";
  CHECK(contains(message_of([&] { crypto::load_public_identity(folder.path() / "client-1"); }),
                 "client-1.pub:5: curve_secret: unknown key"));
}

TEST_CASE("TomlTable: wiping leaves no text, however deep it lies") {
  crypto::TomlTable table{.file = "f", .line = 1, .entries = {{.key = "a", .text = "secret"}}};
  table.entries.push_back({.key = "b", .tables = std::vector{table}});
  crypto::wipe(table);
  CHECK(table.text("a").empty());
  CHECK(table.tables("b").front().text("a").empty());
}
