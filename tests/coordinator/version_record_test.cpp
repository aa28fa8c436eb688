#include "coordinator/version_record.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "coordinator/sqlite.h"
#include "core/error.h"
#include "tests/coordinator/harness.h"

using namespace drystone;
using namespace drystone::test;
using coordinator::Store;

namespace {

/// One round of one client, whose version the evaluator has measured.
class MeasuredRound {
 public:
  MeasuredRound() {
    federation_.start_with({"evaluator", "client-1"});
    const auto task = federation_.next<wire::Task>("client-1").value();
    REQUIRE(federation_.take_part("client-1", task, 2, 0.25)->accepted);
    federation_.settle();
    for (std::uint64_t version = 0; version < 2; ++version) {
      federation_.client("evaluator").send(federation_.evaluation(version, {{"loss", 1.0}}));
      federation_.settle();
    }
  }

  Federation& federation() { return federation_; }
  Store& store() { return federation_.coordinator().store(); }
  fs::path state() const { return dir_ / "state"; }

 private:
  TemporaryFolder dir_;
  Federation federation_{dir_.path(), 1, 1, /*evaluator=*/true};
};

bool is_same(const wire::Signed& one, const wire::Signed& other) {
  return one.bytes == other.bytes && one.signature == other.signature;
}

}  // namespace

TEST_CASE("version record: it comes back from its file whole") {
  MeasuredRound round;
  for (std::uint64_t version = 0; version < 2; ++version) {
    CAPTURE(version);
    const auto record = coordinator::make_record(round.store(), version);
    REQUIRE(record.updates.size() == version);
    REQUIRE(record.evaluations.size() == 1);
    const auto back = coordinator::record_from_json(coordinator::to_json(record));
    CHECK(is_same(back.manifest, record.manifest));
    CHECK(is_same(back.plan, record.plan));
    CHECK(back.coordinator == identity("coordinator").public_part.signing);
    REQUIRE(back.evaluations.size() == 1);
    CHECK(back.evaluations[0].client == "evaluator");
    CHECK(back.evaluations[0].signer == identity("evaluator").public_part.signing);
    CHECK(is_same(back.evaluations[0].manifest, record.evaluations[0].manifest));
    REQUIRE(back.updates.size() == version);
    if (version == 0) continue;
    CHECK(back.updates[0].client == "client-1");
    CHECK(back.updates[0].signer == identity("client-1").public_part.signing);
    CHECK(is_same(back.updates[0].manifest, record.updates[0].manifest));
  }
}

TEST_CASE("version record: a person reads in it what was signed") {
  MeasuredRound round;
  const auto record = coordinator::make_record(round.store(), 1);
  const auto manifest = wire::decode_version(record.manifest.bytes).value();
  const auto json = nlohmann::json::parse(coordinator::to_json(record));
  const auto& summary = json.at("summary");
  CHECK(summary.at("version") == 1);
  CHECK(summary.at("round") == 1);
  CHECK(summary.at("mode") == "add");
  CHECK(summary.at("payload") == core::to_hex(manifest.payload));
  CHECK(summary.at("payload_bytes") == round.store().blobs().size(manifest.payload));
  CHECK(summary.at("previous_head") == core::to_hex(manifest.previous_head));
  CHECK(summary.at("round_root") == core::to_hex(manifest.round_root));
  CHECK(summary.at("config") == core::to_hex(manifest.config));
  CHECK(summary.at("head") == core::to_hex(round.federation().coordinator().report().head));
  const auto& update = json.at("updates").at(0);
  CHECK(update.at("num_examples") == 10);
  CHECK(update.at("payload") ==
        core::to_hex(crypto::sha256(tensors::to_bytes(small_update(2, 0.25)))));
}

TEST_CASE("version record: of an unreadable manifest, or no version, there is none") {
  MeasuredRound round;
  CHECK_THROWS_AS(coordinator::make_record(round.store(), 2), core::InvariantError);
  round.federation().crash();
  coordinator::SqliteDatabase(round.state() / "state.sqlite",
                              coordinator::SqliteDatabase::Access::Write)
      .execute("UPDATE versions SET manifest = x'00'");
  for (std::uint64_t version = 0; version < 2; ++version) {
    CAPTURE(version);
    CHECK_THROWS_AS(coordinator::make_record(Store(round.state()), version), core::InvariantError);
  }
}

TEST_CASE("version record: what is none is an error of reading it") {
  MeasuredRound round;
  const std::string whole = coordinator::to_json(coordinator::make_record(round.store(), 1));
  auto json = nlohmann::ordered_json::parse(whole);
  const auto refused = [](const nlohmann::ordered_json& changed) {
    CHECK_THROWS_AS(coordinator::record_from_json(changed.dump()), core::IoError);
  };
  for (const char* const field : {"manifest", "coordinator", "plan", "updates"}) {
    CAPTURE(field);
    auto without = json;
    without.erase(field);
    refused(without);
  }
  json["coordinator"] = "00";  // too short for a key
  refused(json);
  json["coordinator"] = "no hex";
  refused(json);
  CHECK_THROWS_AS(coordinator::record_from_json("{"), core::IoError);
}
