// Changes of the roster while a federation runs: signed, in order, stored before they count.

#include "coordinator/membership.h"

#include <doctest/doctest.h>

#include "coordinator/change_inbox.h"
#include "core/error.h"
#include "core/files.h"
#include "tests/coordinator/harness.h"
#include "wire/durable_file.h"

using namespace drystone;
using namespace std::chrono_literals;
namespace fs = std::filesystem;
using coordinator::ChangeInbox;
using coordinator::Membership;
using core::Refusal;
using test::Federation;
using test::TemporaryFolder;

namespace {

const std::string kFederation(64, 'f');

crypto::KeyRequest request_of(const crypto::PublicIdentity& identity) {
  return {.identity = identity, .replaces = {}};
}

/// Three clients, and a coordinator whose key signs.
struct Members {
  crypto::Identity signer = test::identity("coordinator");
  crypto::Roster roster;
  Membership membership = make();

  Membership make() {
    for (const char* name : {"client-1", "client-2", "client-3"}) {
      roster.clients[name] = {test::identity(name).public_part, crypto::Role::Train, 4, 100};
    }
    return {roster, kFederation, signer.public_part.signing};
  }
  wire::Signed revoked(const std::string& client) {
    return coordinator::sign(signer, membership.revoke(client).value());
  }
  void apply(const wire::Signed& change) {
    const auto checked = membership.check(change);
    REQUIRE_MESSAGE(checked.has_value(), checked.error().detail);
    membership.apply(*checked, change.bytes);
  }
  void check_refused(const wire::Signed& change, Refusal reason) {
    const auto checked = membership.check(change);
    REQUIRE_FALSE(checked.has_value());
    CHECK(core::name(checked.error().code) == core::name(reason));
  }
};

/// A running federation to which a test, as the operator does, hands signed changes.
struct Running {
  TemporaryFolder dir;
  Federation federation;
  fs::path roster_file = dir / "roster.toml";

  explicit Running(int clients = 3, std::int64_t rounds = 2, std::int64_t quorum = 0)
      : federation(dir.path(), clients, rounds) {
    federation.config().federation.quorum = quorum;
    crypto::save_roster(federation.roster(), roster_file);
    federation.take_roster_changes(roster_file);
  }

  /// As `drystone keys` sees the members: by the state and roster.toml.
  Membership members() {
    Membership members(federation.roster(), federation.coordinator().store().federation(),
                       federation.coordinator_identity().public_part.signing);
    members.resume(federation.coordinator().store().roster_changes());
    return members;
  }
  void put(const wire::RosterChange& change) {
    const auto signed_change = coordinator::sign(federation.coordinator_identity(), change);
    REQUIRE(ChangeInbox(dir / "state").put(change.number, signed_change));
  }
  void take_up() {
    federation.clock().advance(1s);
    federation.settle();
  }
  void revoke(const std::string& client) {
    put(members().revoke(client).value());
    take_up();
  }
  crypto::Identity add(const std::string& client) {
    crypto::Identity fresh = crypto::generate_identity(client);
    put(members().approve(request_of(fresh.public_part), {.max_rank = 4}).value());
    take_up();
    return fresh;
  }
  std::vector<std::string> cohort() {
    return wire::decode_plan(federation.coordinator().store().open_plan().value().bytes)
        .value()
        .cohort;
  }
};

}  // namespace

TEST_CASE("membership: changes follow one another and lead to the roster that they tell") {
  Members m;
  const crypto::PublicIdentity fresh = test::identity("client-4").public_part;
  m.apply(coordinator::sign(m.signer,
                            m.membership.approve(request_of(fresh), {.max_rank = 8}).value()));
  CHECK(m.membership.mark().change == 1);
  CHECK(m.membership.roster().clients.at("client-4").max_rank == 8);
  m.apply(m.revoked("client-2"));
  CHECK_FALSE(m.membership.roster().find("client-2").has_value());
  const crypto::PublicIdentity renewed =
      crypto::derive_identity("client-3", core::as_bytes("renewed")).public_part;
  const auto old = m.roster.clients.at("client-3").identity.signing;
  m.apply(coordinator::sign(
      m.signer,
      m.membership.approve({.identity = renewed, .replaces = old}, {.max_rank = 2}).value()));
  CHECK(m.membership.roster().clients.at("client-3").identity.signing == renewed.signing);
  CHECK(m.membership.mark().change == 3);
  CHECK(m.membership.is_as_signed());
}

TEST_CASE("membership: a forged, altered, replayed or misplaced change is refused") {
  Members m;
  const wire::Signed first = m.revoked("client-1");
  m.check_refused(
      coordinator::sign(test::identity("client-2"), m.membership.revoke("client-1").value()),
      Refusal::BadSignature);
  wire::Signed altered = first;
  altered.bytes.back() ^= 1;
  m.check_refused(altered, Refusal::BadSignature);
  const wire::RosterChange good = m.membership.revoke("client-1").value();
  const auto bent = [&](auto bend) {
    wire::RosterChange change = good;
    bend(change);
    return coordinator::sign(m.signer, change);
  };
  m.check_refused(bent([](auto& c) { c.federation = "another"; }), Refusal::PlanMismatch);
  m.check_refused(bent([](auto& c) { c.number = 2; }), Refusal::PlanMismatch);
  m.check_refused(bent([](auto& c) { c.previous.fill(1); }), Refusal::PlanMismatch);
  m.check_refused(bent([](auto& c) { c.roster.fill(1); }), Refusal::PlanMismatch);
  m.check_refused(bent([](auto& c) { c.old_signing.fill(1); }), Refusal::PlanMismatch);
  m.check_refused(bent([](auto& c) { c.entry.identity.name = "client-9"; }),
                  Refusal::UnknownClient);
  m.check_refused(coordinator::sign(m.signer, m.membership.edit()), Refusal::PlanMismatch);
  m.apply(first);
  m.check_refused(first, Refusal::PlanMismatch);
}

TEST_CASE("membership: what an operator cannot do is told in one line") {
  Members m;
  const auto says = [](const auto& result, const char* text) {
    REQUIRE_FALSE(result.has_value());
    CHECK_MESSAGE(result.error().detail.find(text) != std::string::npos, result.error().detail);
    CHECK(result.error().detail.find('\n') == std::string::npos);
  };
  const crypto::PublicIdentity known = m.roster.clients.at("client-1").identity;
  const crypto::PublicIdentity fresh = crypto::generate_identity("client-1").public_part;
  crypto::PublicIdentity stolen = known;
  stolen.name = "client-7";
  says(m.membership.revoke("client-9"), "is not in the roster");
  says(m.membership.approve(request_of(known), {}), "with this very key");
  says(m.membership.approve(request_of(fresh), {}), "revoke that one first");
  says(m.membership.approve(request_of(stolen), {}), "the same key as client client-1");
  says(m.membership.approve({.identity = fresh, .replaces = fresh.signing}, {}),
       "not its present one");
  m.apply(m.revoked("client-1"));
  says(m.membership.approve(request_of(known), {}), "was revoked and stays so");
  says(m.membership.approve({.identity = fresh, .replaces = known.signing}, {}),
       "is not in the roster");
  CHECK(m.membership.approve(request_of(fresh), {}).has_value());
}

TEST_CASE("membership: a chain that was cut, reordered or signed by another is not resumed") {
  Members m;
  const wire::Signed first = m.revoked("client-1");
  m.apply(first);
  const wire::Signed second = m.revoked("client-2");
  const auto resumes = [&](std::vector<wire::Signed> chain, const crypto::PublicKey& signer) {
    Membership again(m.roster, kFederation, signer);
    again.resume(chain);
    return again.mark().change;
  };
  const crypto::PublicKey& own = m.signer.public_part.signing;
  CHECK(resumes({first, second}, own) == 2);
  CHECK_THROWS_AS(resumes({second}, own), core::IoError);
  CHECK_THROWS_AS(resumes({second, first}, own), core::IoError);
  CHECK_THROWS_AS(resumes({first, first}, own), core::IoError);
  CHECK_THROWS_AS(resumes({first}, test::identity("other").public_part.signing), core::IoError);
}

TEST_CASE("membership: a revoked key does not come back by an older roster.toml under a new name") {
  Members m;
  const crypto::RosterEntry revoked = m.roster.clients.at("client-1");
  const wire::Signed change = m.revoked("client-1");
  Membership same(m.roster, kFederation, m.signer.public_part.signing);
  same.resume({&change, 1});  // the old file still lists it: the change counts
  CHECK_FALSE(same.roster().find("client-1").has_value());
  m.roster.clients["client-9"] = revoked;
  Membership renamed(m.roster, kFederation, m.signer.public_part.signing);
  CHECK_THROWS_AS(renamed.resume({&change, 1}), core::ConfigError);
}

TEST_CASE("change inbox: a number is given once; what is no change is told, not read") {
  const TemporaryFolder dir;
  const ChangeInbox inbox(dir.path());
  CHECK_FALSE(inbox.contains(1));
  const wire::Signed change{.bytes = {1, 2, 3}, .signature = {}};
  CHECK(inbox.put(1, change));
  CHECK_FALSE(inbox.put(1, {.bytes = {9}, .signature = {}}));
  REQUIRE(inbox.contains(1));
  CHECK(inbox.read(1)->bytes == change.bytes);
  dir.write("changes/2.change", "half");
  dir.write("changes/3.change", std::string(10'000, 'x'));
  fs::create_directory(dir / "changes/4.change");
  for (const std::uint64_t number : {2U, 3U, 4U}) {
    REQUIRE(inbox.contains(number));
    CHECK_FALSE(inbox.read(number).has_value());
    inbox.set_aside(number);
    CHECK_FALSE(inbox.contains(number));
  }
  inbox.remove(1);
  CHECK_FALSE(inbox.contains(1));
}

TEST_CASE("membership: a client that is added takes part from the next round, nobody restarts") {
  Running r;
  r.federation.start_with({"client-1", "client-2", "client-3"});
  const auto first = r.federation.next<wire::Task>("client-1");
  REQUIRE(first.has_value());
  CHECK(wire::decode_plan(first->plan.bytes)->roster == wire::RosterMark{});
  r.federation.know(r.add("client-4"));
  r.federation.hello("client-4");
  CHECK_FALSE(r.federation.next<wire::Task>("client-4").has_value());
  CHECK(r.federation.take_part("client-1", *first, 2, 0.25)->accepted);
  for (const std::string name : {"client-2", "client-3"}) {
    CHECK(r.federation.take_part(name, *r.federation.next<wire::Task>(name), 2, 0.25)->accepted);
  }
  CHECK((r.cohort() == std::vector<std::string>{"client-1", "client-2", "client-3", "client-4"}));
  for (const std::string name : {"client-1", "client-2", "client-3", "client-4"}) {
    const auto task = r.federation.next<wire::Task>(name);
    REQUIRE(task.has_value());
    const auto plan = wire::decode_plan(task->plan.bytes);
    CHECK(plan->roster == r.members().mark());
    CHECK(r.federation.take_part(name, *task, 2, 0.25)->accepted);
  }
  CHECK(r.federation.coordinator().is_over());
  const auto versions = r.federation.coordinator().store().versions(0, 10);
  REQUIRE(versions.size() == 3);
  CHECK(wire::decode_version(versions[1].bytes)->roster.change == 0);
  const auto last = wire::decode_version(versions[2].bytes);
  CHECK(last->roster == r.members().mark());
  CHECK(last->head == crypto::chain_head(last->previous_head, last->round_root, last->payload,
                                         last->config, last->roster.digest));
}

TEST_CASE("membership: a revoked client hears it, and its accepted update leaves the open round") {
  Running r(3, 1, 2);
  r.federation.start_with({"client-1", "client-2", "client-3"});
  const auto own = r.federation.next<wire::Task>("client-1");
  CHECK(r.federation.take_part("client-1", *own, 2, 0.5)->accepted);
  r.revoke("client-1");
  const auto told = r.federation.next<wire::Refused>("client-1");
  REQUIRE(told.has_value());
  CHECK(told->refusal == Refusal::UnknownClient);
  CHECK(r.federation.coordinator().store().updates(1).empty());
  r.federation.hello("client-1");
  CHECK_FALSE(r.federation.next<wire::Welcome>("client-1").has_value());
  for (const std::string name : {"client-2", "client-3"}) {
    CHECK(r.federation.take_part(name, *r.federation.next<wire::Task>(name), 2, 0.25)->accepted);
  }
  REQUIRE(r.federation.coordinator().is_over());
  CHECK_FALSE(r.federation.coordinator().failure().has_value());
  const auto updates = r.federation.coordinator().store().updates(1);
  REQUIRE(updates.size() == 2);
  CHECK(updates[0].update.client == "client-2");
}

TEST_CASE("membership: an upload under way is forgotten with its client") {
  Running r(3, 1, 2);
  r.federation.start_with({"client-1", "client-2", "client-3"});
  const auto task = r.federation.next<wire::Task>("client-1");
  const auto plan = wire::decode_plan(task->plan.bytes);
  const core::Bytes payload = tensors::to_bytes(test::small_update(2, 0.25));
  const auto manifest = r.federation.manifest("client-1", payload, *plan);
  r.federation.client("client-1").send(r.federation.offer("client-1", manifest, *task));
  r.federation.settle();
  const auto want = r.federation.next<wire::Want>("client-1");
  REQUIRE(want.has_value());
  SUBCASE("before its payload is here") {}
  SUBCASE("while its payload is checked") {
    r.federation.hold_work(true);
    r.federation.client("client-1").send(Federation::chunk(*want, payload));
    r.federation.settle();
  }
  r.revoke("client-1");
  r.federation.client("client-1").send(Federation::chunk(*want, payload));
  r.federation.hold_work(false);
  r.federation.settle();
  CHECK(r.federation.coordinator().store().updates(1).empty());
  CHECK_FALSE(r.federation.coordinator().store().blobs().contains(manifest.payload));
  for (const std::string name : {"client-2", "client-3"}) {
    CHECK(r.federation.take_part(name, *r.federation.next<wire::Task>(name), 2, 0.5)->accepted);
  }
  CHECK(r.federation.coordinator().is_over());
}

TEST_CASE("membership: a round that cannot reach its quorum any more is planned anew at once") {
  Running r(3, 1, 0);  // everybody
  r.federation.start_with({"client-1", "client-2", "client-3"});
  CHECK(r.federation.take_part("client-2", *r.federation.next<wire::Task>("client-2"), 2, 0.25)
            ->accepted);
  r.revoke("client-3");
  CHECK((r.cohort() == std::vector<std::string>{"client-1", "client-2"}));
  const auto plan = wire::decode_plan(r.federation.coordinator().store().open_plan().value().bytes);
  CHECK(plan->attempt == 1);
  CHECK(plan->roster.change == 1);
}

TEST_CASE("membership: too few for any round wait until others are let in") {
  Running r(3, 1, 3);
  r.federation.start_with({"client-1", "client-2", "client-3"});
  r.revoke("client-3");
  r.federation.clock().advance(1h);
  r.federation.settle();
  CHECK_FALSE(r.federation.coordinator().is_over());
  CHECK_FALSE(r.federation.coordinator().store().open_plan().has_value());
  r.federation.know(r.add("client-4"));
  r.federation.hello("client-4");
  CHECK((r.cohort() == std::vector<std::string>{"client-1", "client-2", "client-4"}));
}

TEST_CASE("membership: a renewed client goes on under its new key, its accepted update stays") {
  Running r(2, 2, 2);
  r.federation.start_with({"client-1", "client-2"});
  CHECK(r.federation.take_part("client-1", *r.federation.next<wire::Task>("client-1"), 2, 0.25)
            ->accepted);
  crypto::Identity renewed = crypto::generate_identity("client-1");
  const auto old = r.federation.roster().clients.at("client-1").identity.signing;
  r.put(r.members()
            .approve({.identity = renewed.public_part, .replaces = old}, {.max_rank = 4})
            .value());
  r.take_up();
  CHECK(r.federation.next<wire::Refused>("client-1")->refusal == Refusal::UnknownClient);
  CHECK(r.federation.take_part("client-2", *r.federation.next<wire::Task>("client-2"), 2, 0.25)
            ->accepted);
  CHECK(r.federation.coordinator().store().updates(1).size() == 2);

  r.federation.hello("client-1");
  const auto task = r.federation.next<wire::Task>("client-1");
  REQUIRE(task.has_value());
  CHECK_FALSE(r.federation.take_part("client-1", *task, 2, 0.25)->accepted);  // the old key
  r.federation.know(std::move(renewed));
  CHECK(r.federation.take_part("client-1", *task, 2, 0.25)->accepted);
}

TEST_CASE("membership: a kill at any moment of a change leaves it made or still to be made") {
  Running r(3, 1, 2);
  r.federation.start_with({"client-1", "client-2", "client-3"});
  CHECK(r.federation.take_part("client-1", *r.federation.next<wire::Task>("client-1"), 2, 0.25)
            ->accepted);
  const wire::RosterChange change = r.members().revoke("client-1").value();
  SUBCASE("left there, not taken up") {
    r.put(change);
    r.federation.crash();
  }
  SUBCASE("stored, its file still there") {
    r.put(change);
    const fs::path file = ChangeInbox(r.dir / "state").file(1);
    const core::Bytes bytes = core::read_file(file, 1 << 20);
    r.take_up();
    r.federation.crash();
    core::write_file_atomic(file, bytes);
  }
  r.federation.start_with({"client-2", "client-3"});
  CHECK(r.federation.coordinator().store().roster_changes().size() == 1);
  CHECK(r.federation.coordinator().store().updates(1).empty());
  CHECK_FALSE(ChangeInbox(r.dir / "state").contains(1));
  for (const std::string name : {"client-2", "client-3"}) {
    CHECK(r.federation.take_part(name, *r.federation.next<wire::Task>(name), 2, 0.25)->accepted);
  }
  CHECK(r.federation.coordinator().is_over());
}

TEST_CASE("membership: a bad file is set aside, nothing changes, and the next one counts") {
  Running r;
  r.federation.start_with({"client-1", "client-2", "client-3"});
  const ChangeInbox inbox(r.dir / "state");
  fs::create_directory(r.dir / "state/changes");
  SUBCASE("half of one") { r.dir.write("state/changes/1.change", "half"); }
  SUBCASE("edited") {
    wire::Signed change = coordinator::sign(r.federation.coordinator_identity(),
                                            r.members().revoke("client-1").value());
    change.bytes[change.bytes.size() / 2] ^= 1;
    REQUIRE(inbox.put(1, change));
  }
  SUBCASE("signed by a client") {
    REQUIRE(inbox.put(
        1, coordinator::sign(test::identity("client-1"), r.members().revoke("client-2").value())));
  }
  r.take_up();
  CHECK(r.federation.coordinator().store().roster_changes().empty());
  CHECK_FALSE(inbox.contains(1));
  CHECK(fs::exists(inbox.refused_file(1)));
  r.revoke("client-1");
  CHECK(r.federation.coordinator().store().roster_changes().size() == 1);
}

TEST_CASE("membership: roster.toml changed by hand counts from the next start, which notes it") {
  Running r(3, 1, 2);
  r.federation.start_with({"client-1", "client-2", "client-3"});
  r.revoke("client-1");
  r.federation.crash();
  r.federation.roster().clients.at("client-2").max_rank = 9;
  r.federation.start();
  const auto changes = r.federation.coordinator().store().roster_changes();
  REQUIRE(changes.size() == 2);
  CHECK(wire::decode_roster_change(changes[1].bytes)->action == wire::RosterAction::Edit);
  CHECK(r.members().is_as_signed());
  r.federation.crash();
  r.federation.start();
  CHECK(r.federation.coordinator().store().roster_changes().size() == 2);
}

TEST_CASE("membership: without changes a state has no trace of them, and edits are not noted") {
  Running r(3, 1, 2);
  r.federation.start_with({"client-1", "client-2", "client-3"});
  r.federation.crash();
  r.federation.take_out("client-3");
  r.federation.start_with({"client-1", "client-2"});
  CHECK(r.federation.coordinator().store().roster_changes().empty());
}
