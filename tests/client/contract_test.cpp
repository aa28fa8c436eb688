#include "client/contract.h"

#include <fstream>

#include <doctest/doctest.h>

#include "core/error.h"
#include "crypto/hash.h"
#include "tests/client/scripted_coordinator.h"

namespace drystone::client {
namespace {

wire::VersionManifest version(std::uint64_t number) {
  return {.version = number,
          .round = number,
          .payload = crypto::sha256(core::as_bytes(std::to_string(number))),
          .payload_bytes = 100,
          .config = core::digest_from_hex(std::string(64, 'f')),
          .head = crypto::sha256(core::as_bytes("head " + std::to_string(number)))};
}

TEST_CASE("contract: what was followed and answered is there after a restart") {
  const test::TemporaryFolder folder;
  const auto file = folder / "contract.json";
  {
    Contract contract(test::toy_terms(), file);
    CHECK(contract.meet(std::string(64, 'f')).has_value());
    for (std::uint64_t number = 0; number < 3; ++number) CHECK(contract.follow(version(number)));
    CHECK_FALSE(contract.follow(version(1)));
    contract.keep({.manifest = {.round = 3,
                                .client = test::kClient,
                                .base_version = 2,
                                .payload = crypto::sha256(core::as_bytes("update")),
                                .payload_bytes = 9,
                                .method = "lora"},
                   .base_head = version(2).head,
                   .seconds = 1.5});
    write_contract(file, contract.file_text());
  }
  Contract contract(test::toy_terms(), file);
  CHECK(contract.federation() == std::string(64, 'f'));
  CHECK(contract.num_followed() == 3);
  REQUIRE(contract.answer());
  CHECK(contract.answer()->manifest.round == 3);
  CHECK(contract.answer()->base_head == version(2).head);
  CHECK(contract.answer()->seconds == 1.5);
  for (std::uint64_t number = 0; number < 4; ++number) CHECK(contract.check(version(number)));
  wire::VersionManifest rewritten = version(1);
  rewritten.head[0] ^= 1;
  CHECK(contract.check(rewritten).error().code == core::Refusal::WrongBase);
  CHECK(contract.meet(std::string(64, 'a')).error().code == core::Refusal::PlanMismatch);
  CHECK((std::filesystem::status(file).permissions() & std::filesystem::perms::others_read) ==
        std::filesystem::perms::none);
  CHECK(contract.follow(version(3)));
  CHECK_FALSE(contract.answer());
}

TEST_CASE("contract: an older roster, or another one of the same number, is refused for good") {
  const test::TemporaryFolder folder;
  const auto file = folder / "contract.json";
  const auto mark = [](std::uint64_t change, const char* content = "change") {
    return wire::RosterMark{.change = change, .digest = crypto::sha256(core::as_bytes(content))};
  };
  const auto plan = [&](const wire::RosterMark& roster) {
    return wire::RoundPlan{.federation = std::string(64, 'f'),
                           .round = 2,
                           .base_version = 1,
                           .seed = test::toy_terms().seed,
                           .cohort = {test::kClient},
                           .start = test::toy_terms().start,
                           .roster = roster};
  };
  const auto published = [&](std::uint64_t number, const wire::RosterMark& roster) {
    wire::VersionManifest manifest = version(number);
    manifest.roster = roster;
    return manifest;
  };
  {
    Contract contract(test::toy_terms(), file);
    CHECK(contract.meet(std::string(64, 'f')).has_value());
    CHECK(contract.check(plan({}), {}).has_value());
    CHECK_FALSE(contract.note_roster(plan({})));
    CHECK(contract.follow(published(0, {})));
    CHECK(contract.file_text().find("roster") == std::string::npos);
    CHECK(contract.note_roster(plan(mark(3))));
    CHECK_FALSE(contract.note_roster(plan(mark(3))));
    CHECK(contract.check(published(1, mark(2))).has_value());  // made before that plan
    CHECK(contract.follow(published(1, mark(2))));
    write_contract(file, contract.file_text());
  }
  Contract contract(test::toy_terms(), file);
  for (const wire::RosterMark& older : {wire::RosterMark{}, mark(2), mark(3, "another")}) {
    const auto checked = contract.check(plan(older), {});
    REQUIRE_FALSE(checked.has_value());
    CHECK(checked.error().code == core::Refusal::PlanRefused);
    CHECK(checked.error().detail.find("roster change") != std::string::npos);
  }
  CHECK(contract.check(plan(mark(3)), {}).has_value());
  CHECK(contract.check(plan(mark(4)), {}).has_value());
  CHECK(contract.check(published(2, mark(1))).error().code == core::Refusal::WrongBase);
  CHECK(contract.check(published(2, mark(2, "another"))).error().code == core::Refusal::WrongBase);
  CHECK(contract.check(published(2, mark(2))).has_value());
}

TEST_CASE("contract: a federation that is pinned is the only one") {
  const test::TemporaryFolder folder;
  const auto file = folder / "run/contract.json";
  pin({.federation = std::string(64, 'a'), .max_rank = 40}, file);
  Contract pinned(test::toy_terms(), file);
  CHECK_FALSE(pinned.meet(std::string(64, 'f')));
  CHECK(pinned.meet(std::string(64, 'a')));
  const aggregation::AdapterLayout layout = *test::toy_terms().layout;
  CHECK(pinned.max_storage() == 4 * aggregation::max_version_bytes(layout, /*max_rank=*/40) +
                                    aggregation::max_payload_bytes(layout, /*max_rank=*/1));
  CHECK_FALSE(Contract(test::toy_terms(), Pinned{}).meet("no id"));
}

TEST_CASE("contract: a damaged file is an error that names it, whatever it holds") {
  const test::TemporaryFolder folder;
  const std::string fresh = R"({"format":1,"federation":"f","max_rank":0,"heads":)";
  const std::vector<std::string> damaged = {
      "",
      "{",
      "[]",
      "{}",
      R"({"format":1})",
      R"({"format":2,"federation":"f","max_rank":0,"heads":[]})",
      fresh + R"(["zz"]})",
      fresh + "7}",
      fresh + R"([],"answer":{"manifest":"00"}})",
      fresh + R"([],"answer":{"manifest":"00","base_head":"","seconds":1}})"};
  for (const std::string& text : damaged) {
    CAPTURE(text);
    const auto file = folder.write("contract.json", text);
    CHECK_THROWS_AS(Contract(test::toy_terms(), file), core::Error);
  }
}

TEST_CASE("contract: storage is bounded by default, without overflow") {
  ContractTerms terms = test::toy_terms();
  const std::uint64_t each = aggregation::max_version_bytes(*terms.layout, 0);
  const std::uint64_t update = aggregation::max_payload_bytes(*terms.layout, 1);
  CHECK(Contract(terms, Pinned{}).max_storage() == 4 * each + update);
  terms.rounds = 1'000'000'000'000'000'000;
  CHECK(Contract(terms, Pinned{}).max_storage() == ~std::uint64_t{0});
  terms.max_storage = 77;
  CHECK(Contract(terms, Pinned{}).max_storage() == 77);
}

TEST_CASE("contract: storage holds an update of a rank far above its layers' sides") {
  ContractTerms terms = test::toy_terms();
  terms.rounds = 1;
  terms.export_rank = 1000;
  const std::uint64_t update = aggregation::max_payload_bytes(*terms.layout, terms.export_rank);
  const std::uint64_t version = aggregation::max_version_bytes(*terms.layout, 0);
  CHECK(update > 10 * version);
  CHECK(Contract(terms, Pinned{}).max_storage() >= update + version);
}

TEST_CASE("contract: the terms know the rank that a method exports") {
  core::Config config;
  config.training = {.method = "pissa", .rank = 6};
  CHECK(terms_of(config, {"client-1", config.training, "none"}, {}).export_rank == 12);
}

}  // namespace
}  // namespace drystone::client
