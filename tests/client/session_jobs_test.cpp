// The session as a state machine: every job is answered by hand, and there is no disk.

#include <map>

#include <doctest/doctest.h>

#include "client/session.h"
#include "core/error.h"
#include "tests/client/scripted_coordinator.h"

namespace drystone::client {
namespace {

using test::ScriptedCoordinator;

struct DisklessClient {
  ContractTerms terms = test::toy_terms();
  test::ToyModel model;
  crypto::Identity identity = test::party(test::kClient);
  training::GlobalStatePtr pristine = training::GlobalState::pristine(model);
  Session session{test::toy_settings(), Contract(terms, Pinned{}), identity, pristine};

  /// The next disk job, which has to be a T.
  template <typename T>
  T disk_job() {
    auto job = session.take_disk_job();
    REQUIRE(job);
    REQUIRE(std::holds_alternative<T>(*job));
    return std::get<T>(std::move(*job));
  }
  template <typename T>
  T message() {
    auto message = session.next_message();
    REQUIRE(message);
    REQUIRE(std::holds_alternative<T>(*message));
    return std::get<T>(std::move(*message));
  }
  bool is_silent() { return !session.next_message() && !session.take_disk_job(); }

  void greet(const ScriptedCoordinator& coordinator) {
    session.on_connected();
    message<wire::Hello>();
    session.on_message(coordinator.welcome());
  }
  /// Up to the search for the version's payload.
  SeekJob ask(const ScriptedCoordinator& coordinator) {
    session.on_message(coordinator.task(coordinator.plan()));
    session.on_message(coordinator.catalog(message<wire::CatalogRequest>().since));
    return disk_job<SeekJob>();
  }
  /// Ends a fold. @return  of the version
  training::GlobalStatePtr fold() {
    const auto job = disk_job<FoldJob>();
    auto next = job.state->apply(
        job.manifest.version, job.manifest.mode,
        {.modules = {},
         .dense =
             job.manifest.version == 0 ? pristine->dense() : std::map<std::string, at::Tensor>{}});
    session.on_disk(Folded{next});
    return next;
  }
  TrainJob training() {
    auto job = session.take_job();
    REQUIRE(job);
    return std::get<TrainJob>(*job);
  }
};

struct Meeting {
  ScriptedCoordinator coordinator;
  DisklessClient client;

  Meeting() {
    coordinator.publish_initial();
    client.greet(coordinator);
  }
  /// Up to the training of round 1.
  TrainJob begin_round() {
    client.ask(coordinator);
    client.session.on_disk(Received{.is_whole = true});
    client.fold();
    client.disk_job<SaveContractJob>();
    client.disk_job<SweepJob>();
    client.session.on_disk(Written{});
    client.session.on_disk(Written{});
    return client.training();
  }
};

TEST_CASE("session: a round, job by job") {
  Meeting meeting;
  DisklessClient& client = meeting.client;
  Session& session = client.session;

  const SeekJob seek = client.ask(meeting.coordinator);
  const wire::Want want{.blob = seek.payload, .offset = 0, .length = seek.bytes};
  CHECK(client.is_silent());
  session.on_disk(Received{.wants = {want}});
  CHECK(client.message<wire::Want>().length == seek.bytes);
  session.on_message(wire::Chunk{seek.payload, 0, core::Bytes(seek.bytes)});
  CHECK(client.disk_job<ReceiveJob>().chunk.data.size() == seek.bytes);
  session.on_disk(Received{.is_whole = true});
  const auto state = client.fold();
  CHECK(session.state() == state);

  CHECK(client.disk_job<SaveContractJob>().text.find("heads") != std::string::npos);
  CHECK(client.disk_job<SweepJob>().needed.empty());
  session.on_disk(Written{});
  CHECK_FALSE(session.take_job());  // what was followed is not on the disk yet
  session.on_disk(Written{});
  const TrainJob job = client.training();
  CHECK(job.state == state);

  session.on_trained(job, test::toy_update(job, client.terms));
  const auto stored = client.disk_job<StoreUpdateJob>();
  CHECK(client.disk_job<SaveContractJob>().text.find("answer") != std::string::npos);
  session.on_disk(Written{});
  CHECK(client.is_silent());  // the answer is not
  session.on_disk(Written{});
  const core::Digest payload = client.disk_job<CheckUpdateJob>().payload;
  CHECK(payload == crypto::sha256(stored.payload));
  CHECK_FALSE(session.next_message());
  session.on_disk(UpdateChecked{.is_whole = true});
  CHECK(wire::decode_update(client.message<wire::Offer>().update.bytes)->payload == payload);
  CHECK(client.is_silent());

  session.on_message(wire::Want{payload, 3, 4});
  CHECK_FALSE(session.next_message());
  CHECK(client.disk_job<ReadJob>().want.offset == 3);
  session.on_disk(PieceRead{wire::Chunk{payload, 3, core::Bytes(4)}});
  CHECK(client.message<wire::Chunk>().data.size() == 4);
  CHECK(client.is_silent());
}

TEST_CASE("session: messages wait for the disk, and results answer jobs") {
  Meeting meeting;
  Session& session = meeting.client.session;
  meeting.client.ask(meeting.coordinator);
  CHECK(session.is_busy());
  CHECK_THROWS_AS(session.on_message(wire::Done{3}), core::InvalidArgument);
  CHECK_THROWS_AS(session.on_connected(), core::InvalidArgument);
  session.on_disk(Received{.wants = {}});
  CHECK_FALSE(session.is_busy());
  CHECK_THROWS_AS(session.on_disk(Written{}), core::InvalidArgument);
}

TEST_CASE("session: a reconnect asks again for what is on its way") {
  Meeting meeting;
  DisklessClient& client = meeting.client;
  const SeekJob seek = client.ask(meeting.coordinator);
  const wire::Want want{.blob = seek.payload, .offset = 0, .length = seek.bytes};
  client.session.on_disk(Received{.wants = {want}});
  client.session.on_connected();  // before the Want was sent
  client.message<wire::Hello>();
  CHECK(client.disk_job<SeekJob>().payload == seek.payload);
  client.session.on_disk(Received{.wants = {want}});
  client.message<wire::Want>();
  CHECK(client.is_silent());
}

TEST_CASE("session: a damaged payload is sought anew, three times") {
  Meeting meeting;
  DisklessClient& client = meeting.client;
  SeekJob seek = client.ask(meeting.coordinator);
  const auto damage = [&] {
    client.session.on_disk(
        Received{.wants = {{.blob = seek.payload, .offset = 0, .length = seek.bytes}}});
    client.message<wire::Want>();
    client.session.on_message(wire::Chunk{seek.payload, 0, core::Bytes(seek.bytes)});
    client.disk_job<ReceiveJob>();
    client.session.on_disk(Received{.damage = "does not hash"});
  };
  for (int times = 1; times < 3; ++times) {
    damage();
    seek = client.disk_job<SeekJob>();
  }
  CHECK_THROWS_AS(damage(), core::Error);
}

TEST_CASE("session: a training that ends while the disk is busy is taken up after it") {
  Meeting meeting;
  DisklessClient& client = meeting.client;
  const TrainJob stopped = meeting.begin_round();
  meeting.coordinator.publish(tensors::FactorSet{});
  const SeekJob seek = client.ask(meeting.coordinator);
  CHECK(stopped.stop.stop_requested());
  CHECK(seek.payload != core::Digest{});
  client.session.on_trained(stopped, std::nullopt);
  CHECK(client.is_silent());
  client.session.on_disk(Received{.is_whole = true});
  client.fold();
  client.disk_job<SaveContractJob>();
  client.session.on_disk(Written{});
  CHECK(client.training().plan->round == 2);
}

TEST_CASE("session: a stored update that is damaged is made again") {
  Meeting meeting;
  DisklessClient& client = meeting.client;
  const TrainJob job = meeting.begin_round();
  client.session.on_trained(job, test::toy_update(job, client.terms));
  client.disk_job<StoreUpdateJob>();
  client.disk_job<SaveContractJob>();
  client.session.on_disk(Written{});
  client.session.on_disk(Written{});
  client.disk_job<CheckUpdateJob>();
  client.session.on_disk(UpdateChecked{.is_whole = false});
  CHECK(client.disk_job<SaveContractJob>().text.find("answer") == std::string::npos);
  CHECK_FALSE(client.session.take_job());
  client.session.on_disk(Written{});
  CHECK(client.training().plan->round == 1);
}

}  // namespace
}  // namespace drystone::client
