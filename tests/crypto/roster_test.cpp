#include "crypto/roster.h"

#include <fstream>
#include <string>

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/temporary_folder.h"

using namespace drystone;

namespace {

crypto::RosterEntry entry(const std::string& name, crypto::Role role, std::int64_t max_rank) {
  const crypto::Identity identity = crypto::derive_identity(name, core::as_bytes("roster"));
  return {.identity = identity.public_part, .role = role, .max_rank = max_rank, .max_examples = 9};
}

crypto::Roster two_clients() {
  crypto::Roster roster;
  roster.clients.emplace("b", entry("b", crypto::Role::Train, 16));
  roster.clients.emplace("a", entry("a", crypto::Role::Evaluate, 0));
  roster.clients.at("a").has_own_settings = true;
  return roster;
}

std::string table(const std::string& name, const std::string& extra = "") {
  const crypto::PublicIdentity known = entry(name, crypto::Role::Train, 1).identity;
  return "[[clients]]\nname = \"" + name + "\"\ncurve = \"" + core::to_hex(known.curve) +
         "\"\nsigning = \"" + core::to_hex(known.signing) + "\"\n" + extra;
}

}  // namespace

TEST_CASE("save_roster: comes back equal") {
  const test::TemporaryFolder folder;
  const auto file = folder.path() / "roster.toml";
  const crypto::Roster roster = two_clients();
  crypto::save_roster(roster, file);
  const crypto::Roster loaded = crypto::load_roster(file);
  REQUIRE(loaded.clients.size() == 2);
  for (const auto& [name, expected] : roster.clients) {
    CAPTURE(name);
    const crypto::RosterEntry& actual = loaded.clients.at(name);
    CHECK(actual.identity.name == name);
    CHECK(actual.identity.curve == expected.identity.curve);
    CHECK(actual.identity.signing == expected.identity.signing);
    CHECK(actual.role == expected.role);
    CHECK(actual.max_rank == expected.max_rank);
    CHECK(actual.max_examples == expected.max_examples);
    CHECK(actual.has_own_settings == expected.has_own_settings);
  }
}

TEST_CASE("load_roster: an empty file is an empty roster; defaults are the least rights") {
  const test::TemporaryFolder folder;
  const auto file = folder.path() / "roster.toml";
  std::ofstream(file) << "";
  CHECK(crypto::load_roster(file).clients.empty());
  std::ofstream(file) << table("a");
  const crypto::RosterEntry loaded = crypto::load_roster(file).clients.at("a");
  CHECK(loaded.role == crypto::Role::Train);
  CHECK(loaded.max_rank == 0);
  CHECK(loaded.max_examples == 0);
  CHECK_FALSE(loaded.has_own_settings);
  std::ofstream(file) << table("a", "role = \"train\"\nsettings = \"plan\"\n");
  CHECK_FALSE(crypto::load_roster(file).clients.at("a").has_own_settings);
}

TEST_CASE("load_roster: every mistake names file and line") {
  const test::TemporaryFolder folder;
  const auto file = folder.path() / "roster.toml";
  const auto complaint = [&](const std::string& text) -> std::string {
    std::ofstream(file) << text;
    try {
      crypto::load_roster(file);
    } catch (const core::ConfigError& error) {
      return std::string(error.what()).substr(file.string().size());
    }
    return "accepted";
  };
  CHECK(complaint("x = 1\n").starts_with(":1: x: unknown key; known here: clients"));
  CHECK(complaint("\nclients = 3\n").starts_with(":2: clients: must be tables"));
  CHECK(complaint("clients = [1]\n").starts_with(":1: clients: expected tables"));
  CHECK(complaint("[[clients]]\nname = \"a\"\n").starts_with(":1: curve: missing"));
  CHECK(complaint("\n[[clients]]\nname = \"a\"\n").starts_with(":2: curve: missing"));
  CHECK(complaint("[[clients]]\nname = 7\n").starts_with(":2: name: must be a string"));
  CHECK(complaint(table("a", "rank = 4\n")).starts_with(":5: rank: unknown key"));
  CHECK(complaint(table("a", "max_rank = -4\n")).starts_with(":5: max_rank: must be an integer"));
  CHECK(
      complaint(table("a", "max_rank = \"4\"\n")).starts_with(":5: max_rank: must be an integer"));
  CHECK(complaint(table("a", "role = \"admin\"\n")).starts_with(":5: role: 'admin' is not a role"));
  CHECK(complaint(table("a", "settings = \"mine\"\n")).starts_with(":5: settings: 'mine' says"));
  std::string renamed = table("a");
  renamed.replace(renamed.find("\"a\""), 3, "\"../a\"");
  CHECK(complaint(renamed).starts_with(":2: name: use 1 to 128 letters"));
  CHECK(complaint(table("a") + table("a")).starts_with(":6: name: client a appears twice"));
  std::string stolen = table("b");
  const crypto::PublicIdentity a = entry("a", crypto::Role::Train, 1).identity;
  const crypto::PublicIdentity b = entry("b", crypto::Role::Train, 1).identity;
  stolen.replace(stolen.find(core::to_hex(b.curve)), 64, core::to_hex(a.curve));
  CHECK(complaint(table("a") + stolen).starts_with(":7: curve: the same key as client a"));
  stolen = table("b");
  stolen.replace(stolen.find(core::to_hex(b.signing)), 64, core::to_hex(a.signing));
  CHECK(complaint(table("a") + stolen).starts_with(":8: signing: the same key as client a"));
  CHECK(complaint("[[clients]\n").starts_with(":1: this is not TOML: "));
  std::string deep = "a";
  for (int i = 0; i < 1'000'000; ++i) deep += ".a";
  for (const std::string& text :
       {deep + " = 1", "[" + deep + "]", "x = " + std::string(1'000'000, '[')}) {
    CHECK(complaint("\n" + text) == ":2: nested deeper than 64 levels; correct this line");
  }
  CHECK_THROWS_AS(crypto::load_roster(folder.path() / "missing.toml"), core::IoError);
}
