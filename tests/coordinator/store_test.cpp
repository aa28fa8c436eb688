#include "coordinator/store.h"

#include <fstream>
#include <set>
#include <string_view>

#include <doctest/doctest.h>

#include "coordinator/earlier_life.h"
#include "coordinator/sqlite.h"
#include "core/files.h"
#include "tests/coordinator/harness.h"

using namespace drystone;
using namespace drystone::test;
using coordinator::SqliteDatabase;
using coordinator::Store;

namespace {

const coordinator::StateOwner kOwner = {.federation = std::string(64, 'f'), .coordinator = {1}};

void flip_a_bit(const fs::path& file) {
  core::Bytes bytes = core::read_file(file, 1 << 30);
  bytes[bytes.size() / 2] ^= 1;
  std::ofstream(file, std::ios::binary | std::ios::trunc)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

core::Digest payload_of(Federation& federation, std::uint64_t version) {
  const auto versions = federation.coordinator().store().versions(version, 1);
  return wire::decode_version(versions.front().bytes)->payload;
}

/// The first client's update is accepted, then the process dies.
void accept_one_and_crash(Federation& federation) {
  federation.start();
  for (const char* client : {"client-1", "client-2"}) federation.hello(client);
  const auto task = federation.next<wire::Task>("client-1").value();
  REQUIRE(federation.take_part("client-1", task, 2, 0.25)->accepted);
  federation.crash();
}

core::Digest answer_to_the_end(Federation& federation) {
  for (int i = 0; i < 20 && !federation.coordinator().is_over(); ++i) {
    for (const std::string name : {"client-1", "client-2"}) {
      const auto task = federation.next<wire::Task>(name);
      if (task) federation.take_part(name, *task, name == "client-1" ? 2 : 4, 0.25);
    }
    federation.settle();
    federation.clock().advance(2s);
    federation.settle();
  }
  REQUIRE(federation.coordinator().is_over());
  return federation.coordinator().report().head;
}

core::Digest finish(Federation& federation) {
  federation.start();
  for (const char* client : {"client-1", "client-2"}) federation.hello(client);
  return answer_to_the_end(federation);
}

}  // namespace

TEST_CASE("store: payloads without their database are never swept, and the remedy is named") {
  const TemporaryFolder dir;
  Federation federation(dir.path());
  accept_one_and_crash(federation);
  const fs::path state = dir.path() / "state";
  const auto num_blobs = wire::BlobStore(state / "blobs").all().size();
  CHECK(num_blobs == 2);  // version 0 and the accepted update
  const auto lose = [&](const auto& how) {
    for (const char* suffix : {"-wal", "-shm"}) {
      fs::remove(state / (std::string("state.sqlite") + suffix));
    }
    how(state / "state.sqlite");
    CHECK_THROWS_WITH_AS(federation.start(), doctest::Contains("--start-over"), core::ConfigError);
    CHECK(wire::BlobStore(state / "blobs").all().size() == num_blobs);
  };
  lose([](const fs::path& file) { fs::resize_file(file, 0); });
  lose([](const fs::path& file) { fs::remove(file); });
  CHECK_FALSE(fs::exists(state / "state.sqlite"));
  coordinator::start_over(dir.path(), state);
  CHECK_FALSE(fs::exists(state / "blobs"));
  federation.start();
}

TEST_CASE("store: a database that lost its newest versions is refused, and nothing is swept") {
  const TemporaryFolder dir;
  Federation federation(dir.path(), 1, 2);
  federation.start();
  const fs::path state = dir / "state";
  const auto blobs = [&] {
    std::set<fs::path> files;
    for (const auto& entry : fs::directory_iterator(state / "blobs")) files.insert(entry.path());
    return files;
  };
  federation.crash();
  std::ofstream(state / "blobs" / std::string(64, 'a')) << "a payload of version 1";
  const auto before = blobs();
  std::ofstream(state / "sum-1.sha256") << "of version 1, which the database does not know";
  CHECK_THROWS_WITH_AS(federation.start(), doctest::Contains("sum-1.sha256 is of a later one"),
                       core::ConfigError);
  CHECK(blobs() == before);
  fs::rename(state / "sum-1.sha256", state / "sum-0.sha256");
  federation.start();
  federation.crash();
  fs::rename(state / "sum-0.sha256", state / "sum-1.sha256");
  coordinator::start_over(dir.path(), state);
  federation.start();
}

TEST_CASE("store: a database whose rows are not what was signed is refused before it is used") {
  const TemporaryFolder dir;
  Federation federation(dir.path());
  finish(federation);
  federation.crash();
  const fs::path file = dir.path() / "state" / "state.sqlite";
  const auto whole = dir.path() / "whole.sqlite";
  fs::copy_file(file, whole);
  const auto refused = [&](const char* sql, const char* why) {
    CAPTURE(sql);
    fs::copy_file(whole, file, fs::copy_options::overwrite_existing);
    coordinator::SqliteDatabase(file, coordinator::SqliteDatabase::Access::Write).execute(sql);
    CHECK_THROWS_WITH_AS(federation.start(), doctest::Contains(why), core::IoError);
  };
  refused("DELETE FROM versions WHERE version = 0", "version 0 is missing");
  refused("UPDATE versions SET report = '{' WHERE version = 1", "the report of version 1 is none");
  refused("UPDATE versions SET head = zeroblob(32)", "version 0's row differs");
  refused("DELETE FROM plans", "round 1's plan is missing");
  refused("UPDATE plans SET plan = zeroblob(10)", "round 1's row differs");
  refused("UPDATE updates SET manifest = zeroblob(100)", "update differs");
  fs::copy_file(whole, file, fs::copy_options::overwrite_existing);
  federation.start();
}

TEST_CASE("store: a state older than the run folder is refused") {
  const TemporaryFolder dir;
  {
    Federation federation(dir.path());
    federation.start();
  }
  const fs::path run = dir.path() / "run";
  const fs::path state = dir.path() / "state";
  coordinator::refuse_earlier_run(run, state);
  fs::create_directories(run / "versions" / "0000");
  coordinator::refuse_earlier_run(run, state);
  fs::create_directories(run / "versions" / "0001");
  CHECK_THROWS_WITH_AS(coordinator::refuse_earlier_run(run, state),
                       doctest::Contains("holds version 1, but the newest"), core::ConfigError);
  CHECK_THROWS_WITH_AS(coordinator::refuse_earlier_run(run, dir.path() / "none"),
                       doctest::Contains("holds no state"), core::ConfigError);
  CHECK_FALSE(fs::exists(dir.path() / "none"));
  coordinator::start_over(run, state);
  coordinator::refuse_earlier_run(run, state);
}

TEST_CASE("store: an accepted update that the disk damaged is asked for again, never published") {
  core::Digest expected;
  {
    const TemporaryFolder dir;
    Federation federation(dir.path());
    expected = finish(federation);
  }
  for (const bool is_gone : {false, true}) {
    CAPTURE(is_gone);
    const TemporaryFolder dir;
    Federation federation(dir.path());
    accept_one_and_crash(federation);
    const core::Digest update = crypto::sha256(tensors::to_bytes(small_update(2, 0.25)));
    const fs::path blob = dir.path() / "state" / "blobs" / core::to_hex(update);
    REQUIRE(fs::exists(blob));
    if (is_gone) {
      fs::remove(blob);
    } else {
      flip_a_bit(blob);
    }
    CHECK(finish(federation) == expected);
  }
}

TEST_CASE("store: damage while it runs is not published: the round is planned anew") {
  const TemporaryFolder dir;
  Federation federation(dir.path());
  federation.start();
  for (const char* client : {"client-1", "client-2"}) federation.hello(client);
  const auto first = federation.next<wire::Task>("client-1").value();
  CHECK(federation.take_part("client-1", first, 2, 0.25)->accepted);
  flip_a_bit(dir.path() / "state" / "blobs" /
             core::to_hex(crypto::sha256(tensors::to_bytes(small_update(2, 0.25)))));
  const auto second = federation.next<wire::Task>("client-2").value();
  CHECK(federation.take_part("client-2", second, 4, 0.25)->accepted);
  federation.settle();
  CHECK(federation.coordinator().report().rounds.empty());
  answer_to_the_end(federation);
  CHECK(federation.coordinator().report().rounds.front().accepted == 2);
}

TEST_CASE("store: a damaged version is not served") {
  const TemporaryFolder dir;
  Federation federation(dir.path());
  finish(federation);
  const core::Digest payload = payload_of(federation, 1);
  federation.crash();
  flip_a_bit(dir.path() / "state" / "blobs" / core::to_hex(payload));
  federation.start();
  federation.hello("client-1");
  federation.client("client-1").send(wire::Want{payload, 0, 16});
  federation.settle();
  while (const auto message = federation.client("client-1").receive(0ms)) {
    CHECK_FALSE(std::holds_alternative<wire::Refused>(**message));  // it may be restored
    CHECK_FALSE(std::holds_alternative<wire::Chunk>(**message));
  }
}

TEST_CASE("store: another coordinator's key is refused: clients know no other") {
  const TemporaryFolder dir;
  Federation federation(dir.path());
  accept_one_and_crash(federation);
  federation.renew_coordinator_key();
  CHECK_THROWS_WITH_AS(federation.start(), doctest::Contains("security.identity"),
                       core::ConfigError);
}

TEST_CASE("store: another layout is refused; a state that never told its own learns it") {
  const TemporaryFolder dir;
  Federation federation(dir.path());
  federation.layout().norms = {{"layer.0.query", 1.0 / 3.0}};
  accept_one_and_crash(federation);
  const aggregation::AdapterLayout own = federation.layout();
  federation.layout().norms["layer.0.query"] += 1e-15;  // as another machine measures it
  federation.start();
  federation.crash();
  const auto refused = [&](const std::string& remedy) {
    CHECK_THROWS_WITH_AS(federation.start(), doctest::Contains("(federation.layout) has changed"),
                         core::ConfigError);
    CHECK_THROWS_WITH_AS(federation.start(), doctest::Contains(remedy.c_str()), core::ConfigError);
  };
  federation.layout().norms["layer.0.query"] = 100.0;
  refused("provision --update");
  federation.layout() = own;
  federation.layout().dense["bias"] = {3};
  std::ofstream(dir / "layout.json") << "as the run left it";
  refused((dir / "layout.json").string() + " is a copy");
  SqliteDatabase(dir / "state" / "state.sqlite", SqliteDatabase::Access::Write)
      .execute("DELETE FROM meta WHERE key = 'layout'");
  federation.start();
  federation.crash();
  federation.layout() = own;
  refused("--start-over");
}

TEST_CASE("store: a reader beside a running coordinator sees one moment and disturbs nothing") {
  const TemporaryFolder dir;
  Federation federation(dir.path());
  federation.start();
  for (const char* client : {"client-1", "client-2"}) federation.hello(client);
  const fs::path state = dir.path() / "state";
  const Store reader(state);
  CHECK(reader.load().version == 0);
  CHECK(reader.load().open->plan.round == 1);
  const auto task = federation.next<wire::Task>("client-1").value();
  CHECK(federation.take_part("client-1", task, 2, 0.25)->accepted);  // not kept from writing
  CHECK(reader.load().open->accepted.empty());
  CHECK(Store(state).load().open->accepted.size() == 1);
  CHECK(reader.inconsistency().value_or("") == "");
  CHECK_THROWS_AS(Store(state, kOwner), core::Error);  // in use
}

TEST_CASE("store: a folder's name may hold what means something in a URI") {
  const TemporaryFolder dir;
  const fs::path state = dir.path() / "a%41?mode=memory#b";
  {
    const Store made(state, kOwner);
    CHECK(fs::exists(state / "state.sqlite"));
  }
  CHECK(Store(state).federation() == kOwner.federation);
}

TEST_CASE("store: reading one at rest leaves no file behind, nor needs a writable folder") {
  const TemporaryFolder dir;
  {
    const Store made(dir.path() / "state", kOwner);
  }
  const fs::path copy = dir.path() / "copy";
  fs::create_directories(copy);
  fs::copy_file(dir.path() / "state" / "state.sqlite", copy / "state.sqlite");
  fs::permissions(copy, fs::perms::owner_read | fs::perms::owner_exec);
  CHECK(Store(copy).federation() == kOwner.federation);
  CHECK(Store(copy).coordinator() == kOwner.coordinator);
  CHECK(std::distance(fs::directory_iterator(copy), {}) == 1);
  fs::permissions(copy, fs::perms::owner_all);
}

TEST_CASE("store: a state from before keys were kept goes on; its signers are today's") {
  const TemporaryFolder dir;
  Federation federation(dir.path());
  accept_one_and_crash(federation);
  {
    SqliteDatabase db(dir.path() / "state" / "state.sqlite", SqliteDatabase::Access::Write);
    db.execute("ALTER TABLE updates DROP COLUMN signer");
    db.execute("ALTER TABLE evaluations DROP COLUMN signer");
    db.execute("DELETE FROM meta WHERE key = 'coordinator'");
  }
  CHECK(Store(dir.path() / "state").updates(1).front().signer == crypto::PublicKey{});
  finish(federation);
  const auto& store = federation.coordinator().store();
  CHECK(store.updates(1).front().signer == federation.identity_of("client-1").public_part.signing);
  CHECK(store.coordinator() == identity("coordinator").public_part.signing);
}

TEST_CASE("store: state_hash tells every state from the others") {
  const TemporaryFolder dir;
  Federation federation(dir.path());
  finish(federation);
  federation.crash();
  const fs::path state = dir.path() / "state";
  std::set<core::Digest> seen = {Store(state).state_hash()};
  for (const char* const change :
       {"UPDATE plans SET is_open = 1 - is_open", "UPDATE plans SET attempt = attempt + 1",
        "UPDATE plans SET plan = x'00'", "UPDATE updates SET client = 'x' || client",
        "UPDATE updates SET manifest = x'00'", "UPDATE updates SET signature = zeroblob(64)",
        "UPDATE versions SET head = zeroblob(32)", "UPDATE versions SET manifest = x'00'",
        "INSERT INTO evaluations VALUES(1, 'e', x'00', zeroblob(64), zeroblob(32))",
        "UPDATE evaluations SET evidence = x'01'", "DELETE FROM evaluations", "DELETE FROM updates",
        "DELETE FROM plans", "DELETE FROM versions"}) {
    CAPTURE(change);
    SqliteDatabase(state / "state.sqlite", SqliteDatabase::Access::Write).execute(change);
    const bool is_known = std::string_view(change) == "DELETE FROM evaluations";
    CHECK(seen.insert(Store(state).state_hash()).second != is_known);
  }
}

TEST_CASE("store: a row that differs from what was signed is found, whichever it is") {
  const TemporaryFolder dir;
  Federation federation(dir.path());
  finish(federation);
  federation.crash();
  const fs::path state = dir.path() / "state";
  CHECK_FALSE(Store(state).inconsistency().has_value());
  const auto complaint_after = [&](const char* change) {
    const fs::path copy = dir.path() / "copy";
    fs::remove_all(copy);
    fs::copy(state, copy, fs::copy_options::recursive);
    SqliteDatabase(copy / "state.sqlite", SqliteDatabase::Access::Write).execute(change);
    return Store(copy).inconsistency().value_or("");
  };
  for (const char* const change :
       {"UPDATE versions SET version = 7 WHERE version = 2",
        "UPDATE versions SET head = zeroblob(32)", "UPDATE versions SET payload = zeroblob(32)",
        "UPDATE versions SET manifest = x'00'"}) {
    CAPTURE(change);
    CHECK(complaint_after(change).find("version ") == 0);
  }
  for (const char* const change :
       {"UPDATE plans SET round = 7 WHERE round = 2", "UPDATE plans SET attempt = 7",
        "UPDATE plans SET is_open = 1", "UPDATE plans SET plan = x'00'"}) {
    CAPTURE(change);
    CHECK(complaint_after(change).find("round ") == 0);
  }
  for (const char* const change :
       {"UPDATE updates SET round = 7 WHERE client = 'client-1' AND round = 1",
        "UPDATE updates SET client = 'x' WHERE client = 'client-1'",
        "UPDATE updates SET attempt = 7", "UPDATE updates SET payload = zeroblob(32)",
        "UPDATE updates SET num_examples = 7", "UPDATE updates SET manifest = x'00'"}) {
    CAPTURE(change);
    CHECK(complaint_after(change).find("the row of ") == 0);
  }
  CHECK(complaint_after("INSERT INTO evaluations VALUES(1, 'e', x'00', zeroblob(64), "
                        "zeroblob(32))") == "a row of an evaluation differs from what was signed");
}
