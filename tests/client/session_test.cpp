#include "client/session.h"

#include <cmath>
#include <limits>

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/client/scripted_coordinator.h"

namespace drystone::client {
namespace {

using core::Refusal;
using test::RestartableClient;
using test::ScriptedCoordinator;
using test::ServedSession;
using Bend = std::function<void(wire::RoundPlan&)>;

tensors::FactorSet small_version(double value = 0.01) {
  return {.modules = {{test::kQuery, {at::full({16, 1}, value), at::full({1, 12}, 0.1)}}},
          .dense = {}};
}

/// A welcomed client of a federation that has published version 0.
struct Meeting {
  ScriptedCoordinator coordinator;
  RestartableClient client;

  explicit Meeting(ContractTerms terms = test::toy_terms()) : client(std::move(terms)) {
    coordinator.publish_initial();
    greet();
  }
  void greet() {
    coordinator.serve(client.session());
    client.session().on_message(coordinator.welcome());
  }
  void restart() {
    client.start();
    greet();
  }
  /// Sends the plan; whatever it leads to before a job.
  std::vector<wire::Message> ask(const wire::RoundPlan& plan, const std::string& settings = {}) {
    client.session().on_message(coordinator.task(plan, settings));
    return coordinator.serve(client.session());
  }
  std::optional<TrainJob> job() {
    auto job = client.session().take_job();
    if (!job) return std::nullopt;
    return std::get<TrainJob>(*job);
  }
  /// A round as it should be. @return  the payload that was offered
  core::Digest take_part() {
    ask(coordinator.plan());
    auto next = job();
    REQUIRE(next);
    client.train(*next);
    const auto offers = test::only<wire::Offer>(coordinator.serve(client.session()));
    REQUIRE(offers.size() == 1);
    return wire::decode_update(offers[0].update.bytes)->payload;
  }
};

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const core::Error& error) {
    return error.what();
  }
  return "";
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("session: a federation as it should be") {
  Meeting meeting;
  meeting.take_part();
  meeting.client.session().on_message(wire::Verdict{.round = 1, .accepted = true});
  meeting.coordinator.publish(small_version());
  meeting.take_part();
  meeting.coordinator.publish(small_version());
  meeting.coordinator.publish(small_version());
  meeting.client.session().on_message(wire::Done{3});
  meeting.coordinator.serve(meeting.client.session());
  CHECK(meeting.client.session().is_done());
  CHECK(meeting.client.session().state()->version() == 3);
}

TEST_CASE("session: a client that followed every version ends once its federation welcomes it") {
  Meeting meeting;
  while (meeting.coordinator.num_versions() < 4) meeting.coordinator.publish(small_version());
  ServedSession& session = meeting.client.session();
  CHECK_FALSE(session.has_seen_the_end());
  session.on_message(wire::Done{3});
  meeting.coordinator.serve(session);
  REQUIRE(session.is_done());

  meeting.client.start();
  CHECK(meeting.client.session().has_seen_the_end());
  CHECK_FALSE(meeting.client.session().is_done());
  const ScriptedCoordinator other(std::string(64, 'a'));
  CHECK(has(error_of([&] { meeting.client.session().on_message(other.welcome()); }),
            "it runs federation aaaaaaaaaaaa, this client is of ffffffffffff"));
  CHECK_FALSE(meeting.client.session().is_done());

  meeting.restart();
  CHECK(meeting.client.session().is_done());
  CHECK(meeting.coordinator.serve(meeting.client.session()).empty());  // fetches nothing again

  meeting.client.terms().evaluates = true;
  meeting.restart();
  CHECK_FALSE(meeting.client.session().is_done());  // an evaluator may be asked again
}

TEST_CASE("session: a plan outside the contract is declined with its reason and trains nothing") {
  const std::vector<std::pair<std::string, Bend>> plans = {
      {"round 900", [](wire::RoundPlan& plan) { plan.round = 900; }},
      {"round 18446744073709551615",
       [](wire::RoundPlan& plan) { plan.round = std::numeric_limits<std::uint64_t>::max(); }},
      {"round 0", [](wire::RoundPlan& plan) { plan.round = 0; }},
      {"round 3 from version 0", [](wire::RoundPlan& plan) { plan.round = 3; }},
      {"from version 1099511627776",
       [](wire::RoundPlan& plan) { plan.base_version = std::uint64_t{1} << 40; }},
      {"seed 8", [](wire::RoundPlan& plan) { plan.seed = 8; }},
      {"start \"evil\"", [](wire::RoundPlan& plan) { plan.start = "evil"; }},
      {"start \"common\"", [](wire::RoundPlan& plan) { plan.start = "common"; }},
      {"federation aaaaaaaaaaaa",
       [](wire::RoundPlan& plan) { plan.federation = std::string(64, 'a'); }},
      {"federation ../../etc", [](wire::RoundPlan& plan) { plan.federation = "../../etc"; }},
  };
  Meeting meeting;
  for (const auto& [reason, bend] : plans) {
    CAPTURE(reason);
    wire::RoundPlan plan = meeting.coordinator.plan();
    bend(plan);
    const auto declines = test::only<wire::Decline>(meeting.ask(plan));
    REQUIRE(declines.size() == 1);
    CHECK(declines[0].refusal == Refusal::PlanRefused);
    CHECK(declines[0].round == plan.round);
    CHECK_MESSAGE(has(declines[0].detail, reason), declines[0].detail);
    CHECK_FALSE(meeting.job());
  }
  meeting.take_part();  // and it goes on
}

TEST_CASE("session: training settings that differ are declined, by the first key that differs") {
  Meeting meeting;
  wire::RoundPlan plan = meeting.coordinator.plan();
  const std::string planned = "drystone settings 1\ntraining.alpha = 32.0\n";
  plan.settings = {crypto::sha256(core::as_bytes(planned))};
  auto declines = test::only<wire::Decline>(meeting.ask(plan, planned));
  REQUIRE(declines.size() == 1);
  CHECK(declines[0].refusal == Refusal::SettingsDiffer);
  CHECK(has(declines[0].detail, "here \"training.alpha = 16.0\""));
  CHECK(has(declines[0].detail, "in the plan \"training.alpha = 32.0\""));
  declines = test::only<wire::Decline>(meeting.ask(plan, "another text"));
  REQUIRE(declines.size() == 1);
  CHECK(has(declines[0].detail, "not the plan's"));
  CHECK_FALSE(meeting.job());

  plan.settings = {core::Digest{}};  // the roster leaves it its own
  meeting.ask(plan, planned);
  CHECK(meeting.job());
}

TEST_CASE("session: its own settings are trained with") {
  Meeting meeting;
  wire::RoundPlan plan = meeting.coordinator.plan();
  plan.settings = {crypto::sha256(core::as_bytes(meeting.client.terms().settings))};
  meeting.ask(plan);
  CHECK(meeting.job());
}

TEST_CASE("session: forged or foreign words end it") {
  Meeting meeting;
  wire::Task task = meeting.coordinator.task(meeting.coordinator.plan());
  task.plan.signature[5] ^= 1;
  CHECK(has(error_of([&] { meeting.client.session().on_message(task); }), "not signed"));
  wire::RoundPlan plan = meeting.coordinator.plan();
  plan.cohort = {"client-2"};
  CHECK(has(error_of([&] { meeting.ask(plan); }), "does not ask this client"));
  CHECK(has(error_of([&] {
              meeting.client.session().on_message(wire::Welcome{std::string(64, 'b'), 0, 3});
            }),
            "runs federation bbbbbbbbbbbb"));
  CHECK(has(error_of([&] { meeting.client.session().on_message(wire::Hello{}); }),
            "only clients send"));
}

TEST_CASE("session: one update a version, however often, with whatever attempts, it is asked") {
  Meeting meeting;
  const core::Digest first = meeting.take_part();
  int jobs = 0;
  for (std::uint64_t attempt = 1; attempt <= 32; ++attempt) {
    wire::RoundPlan plan = meeting.coordinator.plan();
    plan.attempt = attempt;
    if (attempt % 3 == 0) plan.seed = attempt + 100;
    if (attempt % 5 == 0) {
      meeting.client.session().on_message(wire::Verdict{.round = 1, .accepted = attempt % 2 == 0});
    }
    for (const auto& offer : test::only<wire::Offer>(meeting.ask(plan))) {
      const auto manifest = wire::decode_update(offer.update.bytes);
      CHECK(manifest->payload == first);
      CHECK(manifest->attempt == attempt);
    }
    jobs += meeting.job() ? 1 : 0;
    if (attempt % 7 == 0) meeting.restart();
  }
  CHECK(jobs == 0);
}

TEST_CASE("session: an update is signed for the plan that it was trained under, or not at all") {
  Meeting meeting;
  meeting.ask(meeting.coordinator.plan());
  auto job = meeting.job();
  REQUIRE(job);
  wire::RoundPlan other = meeting.coordinator.plan();
  other.attempt = 1;
  other.base_head = crypto::sha256(core::as_bytes("another past"));
  meeting.ask(other);
  CHECK(has(error_of([&] { meeting.client.train(*job); }), "history has forked"));
  CHECK(test::only<wire::Offer>(meeting.coordinator.serve(meeting.client.session())).empty());
}

TEST_CASE("session: rounds do not step back, and a restart remembers") {
  Meeting meeting;
  const wire::RoundPlan first = meeting.coordinator.plan();
  meeting.take_part();
  meeting.coordinator.publish(small_version());
  meeting.take_part();
  for (int life = 0; life < 2; ++life) {
    const auto declines = test::only<wire::Decline>(meeting.ask(first));
    REQUIRE(declines.size() == 1);
    CHECK(has(declines[0].detail, "round 1 after version 1"));
    CHECK_FALSE(meeting.job());
    meeting.restart();
  }
}

TEST_CASE("session: a rewritten history is noticed after a restart too") {
  for (const bool has_answered : {false, true}) {
    CAPTURE(has_answered);
    Meeting meeting;
    meeting.take_part();
    meeting.coordinator.publish(small_version());
    has_answered ? static_cast<void>(meeting.take_part())
                 : static_cast<void>(meeting.ask(meeting.coordinator.plan()));
    ScriptedCoordinator rewritten;  // the same key and federation
    rewritten.publish_initial();
    rewritten.publish(small_version(0.5));
    meeting.client.start();
    rewritten.serve(meeting.client.session());
    ServedSession& session = meeting.client.session();
    session.on_message(rewritten.welcome());
    session.on_message(rewritten.task(rewritten.plan()));
    if (has_answered) {
      const auto declines = test::only<wire::Decline>(rewritten.serve(session));
      REQUIRE(declines.size() == 1);
      CHECK(has(declines[0].detail, "another version 1 than the one answered before"));
    } else {
      CHECK(has(error_of([&] { rewritten.serve(session); }),
                "not the one that this client followed"));
    }
  }
}

TEST_CASE("session: the update made before a restart is offered, not trained again") {
  Meeting meeting;
  const core::Digest payload = meeting.take_part();
  meeting.restart();
  const auto offers = test::only<wire::Offer>(meeting.ask(meeting.coordinator.plan()));
  REQUIRE(offers.size() == 1);
  CHECK(wire::decode_update(offers[0].update.bytes)->payload == payload);
  CHECK_FALSE(meeting.job());

  std::ofstream(meeting.client.blobs() / core::to_hex(payload), std::ios::app) << "x";
  meeting.restart();  // a damaged one is made again, with the same bits
  meeting.ask(meeting.coordinator.plan());
  CHECK(meeting.job());
}

TEST_CASE("session: what a version announces is bounded by the layout before a byte is fetched") {
  Meeting meeting;
  meeting.coordinator.publish(small_version(), [](wire::VersionManifest& manifest) {
    manifest.payload_bytes = 10'000'000'000'000;
  });
  const std::string error = error_of([&] { meeting.ask(meeting.coordinator.plan()); });
  CHECK(has(error, "version 1 announces 10"));
  CHECK(has(error, "set max_rank in its contract.json"));
  CHECK(std::filesystem::is_empty(meeting.client.blobs() / "partial"));
}

TEST_CASE("session: a version that is not of this federation's kind") {
  const std::vector<std::pair<std::string, ScriptedCoordinator::Bend>> bends = {
      {"another aggregation.rule", [](auto& m) { m.mode = core::PublishMode::Replace; }},
      {"of round 9", [](auto& m) { m.round = 9; }},
      {"of federation aaaaaaaaaaaa",
       [](auto& m) { m.config = core::digest_from_hex(std::string(64, 'a')); }},
      {"does not follow", [](auto& m) { m.previous_head[0] ^= 1; }},
      {"does not follow", [](auto& m) { m.version = m.round = 2; }},
  };
  for (const auto& [reason, bend] : bends) {
    CAPTURE(reason);
    Meeting meeting;
    meeting.coordinator.publish(small_version(), bend);
    const std::string error = error_of([&] { meeting.ask(meeting.coordinator.plan()); });
    CHECK_MESSAGE(has(error, reason), error);
  }
}

TEST_CASE("session: a payload that does not fit the model, or the numbers, is the coordinator's") {
  constexpr double kHuge = 3e38;
  const double nan = std::nan("");
  tensors::FactorSet foreign = small_version();
  foreign.modules["encoder.layer.9.evil"] = foreign.modules.at(test::kQuery);
  tensors::FactorSet wide = small_version();
  wide.modules[test::kQuery] = {at::zeros({16, 13}), at::zeros({13, 12})};
  tensors::FactorSet statistics = small_version();
  statistics.dense["statistics/evil"] = at::zeros({100});
  tensors::FactorSet shape = small_version();
  shape.dense["classifier.bias"] = at::zeros({4});
  tensors::FactorSet huge = small_version();
  huge.modules[test::kQuery] = {at::full({16, 1}, kHuge), at::full({1, 12}, 10.0)};
  const std::vector<std::pair<std::string, tensors::FactorSet>> versions = {
      {"encoder.layer.9.evil", foreign},       {"rank 13, at most 12", wide},
      {"statistics/evil", statistics},         {"classifier.bias", shape},
      {"NaN or infinity", small_version(nan)}, {"overflow", huge},
  };
  for (const auto& [reason, factors] : versions) {
    CAPTURE(reason);
    Meeting meeting;
    meeting.coordinator.publish(factors);
    const std::string error = error_of([&] { meeting.ask(meeting.coordinator.plan()); });
    CHECK_MESSAGE(has(error, reason), error);
    CHECK(has(error, "coordinator: version 1, as it published it"));
    CHECK_FALSE(has(error, "learning_rate"));
  }
}

TEST_CASE("session: a header that hides more than the layout needs is refused") {
  Meeting meeting;
  std::string header = R"({"__metadata__":{"format":"drystone-factors-1","x":")";
  header += std::string(40'000, 'x') + "\"}}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  core::Bytes payload(8);
  for (std::size_t i = 0; i < 8; ++i) {
    payload[i] = static_cast<std::uint8_t>(header.size() >> (8 * i));
  }
  payload.insert(payload.end(), header.begin(), header.end());
  meeting.coordinator.publish(payload);
  CHECK(error_of([&] { meeting.ask(meeting.coordinator.plan()); }) != "");
}

TEST_CASE("session: evaluations, and the end, lead nowhere beyond the rounds") {
  ContractTerms terms = test::toy_terms();
  terms.trains = false;
  terms.evaluates = true;
  Meeting meeting(std::move(terms));
  ServedSession& session = meeting.client.session();
  session.on_message(wire::EvaluateTask{1'000'000'000'000'000});
  auto answers = meeting.coordinator.serve(session);
  REQUIRE(test::only<wire::Refused>(answers).size() == 1);
  CHECK(test::only<wire::Refused>(answers)[0].refusal == Refusal::PlanRefused);
  CHECK_FALSE(session.take_job());
  CHECK(test::only<wire::Decline>(meeting.ask(meeting.coordinator.plan())).size() == 1);

  session.on_message(wire::EvaluateTask{0});
  meeting.coordinator.serve(session);
  auto job = session.take_job();
  REQUIRE(job);
  session.on_evaluated(std::get<EvaluateJob>(*job),
                       training::Evaluation{.num_examples = 4, .metrics = {{"loss", 1.0}}});
  CHECK(test::only<wire::Report>(meeting.coordinator.serve(session)).size() == 1);
  session.on_message(wire::EvaluateTask{0});  // the same answer, no second look
  CHECK(test::only<wire::Report>(meeting.coordinator.serve(session)).size() == 1);
  CHECK_FALSE(session.take_job());

  session.on_message(wire::Done{std::numeric_limits<std::uint64_t>::max()});
  meeting.coordinator.serve(session);
  CHECK_FALSE(session.is_done());  // versions 1 to 3 are still to come
  meeting.coordinator.publish(small_version());
  session.on_message(wire::Done{1});
  meeting.coordinator.serve(session);
  CHECK(session.is_done());
}

TEST_CASE("session: a flood of Wants waits as a few, of the update alone") {
  Meeting meeting;
  const core::Digest payload = meeting.take_part();
  ServedSession& session = meeting.client.session();
  for (int i = 0; i < 98'000; ++i) session.on_message(wire::Want{payload, 0, 1 << 20});
  CHECK(session.backlog() == 0);
  std::size_t chunks = 0;
  while (auto message = session.next_message()) {
    // More than the payload holds is refused, as a range beyond its end.
    chunks += std::holds_alternative<wire::Refused>(*message) ? 1 : 0;
  }
  CHECK(chunks == 16);
  session.on_message(wire::Want{crypto::sha256(core::as_bytes("any")), 0, 1});
  const auto message = session.next_message();
  REQUIRE(message);
  CHECK(std::get<wire::Refused>(*message).refusal == Refusal::PayloadMismatch);
}

TEST_CASE("session: damaged chunks are counted a version, not a life") {
  Meeting meeting;
  int damaged = 0;
  meeting.coordinator.bend_chunk = [&](wire::Chunk& chunk) {
    if (damaged > 0 && damaged-- > 0) chunk.data[chunk.data.size() / 2] ^= 1;
  };
  damaged = 2;
  meeting.take_part();
  for (int version = 1; version <= 2; ++version) {
    meeting.coordinator.publish(small_version(0.01 * version));
    damaged = 2;
    meeting.take_part();
  }
  CHECK(damaged == 0);
  meeting.coordinator.publish(small_version(0.04));
  damaged = 3;
  meeting.client.session().on_message(wire::Done{3});
  CHECK(has(error_of([&] { meeting.coordinator.serve(meeting.client.session()); }),
            "the payload of version 3 arrives damaged"));
}

TEST_CASE("session: a cached version that a disk has damaged is fetched again") {
  Meeting meeting;
  meeting.take_part();
  meeting.restart();
  for (const auto& entry : std::filesystem::directory_iterator(meeting.client.blobs())) {
    if (!entry.is_regular_file()) continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-4, std::ios::end);
    file.write("\x42", 1);
  }
  const auto before = meeting.coordinator.num_wants;
  meeting.ask(meeting.coordinator.plan());
  CHECK(meeting.coordinator.num_wants > before);
  CHECK(meeting.client.session().state()->version() == 0);
  CHECK(meeting.job());
}

TEST_CASE("session: storage stays within its quota; old versions go first, partials always") {
  ContractTerms terms = test::toy_terms();
  terms.rounds = 8;
  terms.max_storage = 2500;
  Meeting meeting(std::move(terms));
  std::ofstream(meeting.client.blobs() / "partial" / std::string(64, 'e'))
      << "left by a life before";
  for (int round = 1; round <= 8; ++round) {
    meeting.take_part();
    meeting.coordinator.publish(small_version(0.01 * round));
    std::uint64_t bytes = 0;
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(meeting.client.blobs())) {
      if (entry.is_regular_file()) bytes += entry.file_size();
    }
    CHECK(bytes <= 2500);
  }
  CHECK(std::filesystem::is_empty(meeting.client.blobs() / "partial"));

  ContractTerms narrow = test::toy_terms();
  narrow.max_storage = 100;
  ScriptedCoordinator coordinator;
  coordinator.publish_initial();
  RestartableClient client(std::move(narrow));
  client.session().on_message(coordinator.welcome());
  client.session().on_message(coordinator.task(coordinator.plan()));
  const std::string error = error_of([&] { coordinator.serve(client.session()); });
  CHECK(has(error, "client.max_storage"));
  CHECK(has(error, "set it to at least "));
}

TEST_CASE("session: a shard or a training that is too small is not trained on") {
  for (const bool by_examples : {true, false}) {
    ContractTerms terms = test::toy_terms();
    (by_examples ? terms.min_examples : terms.min_steps) = 21;
    Meeting meeting(std::move(terms));
    const auto declines = test::only<wire::Decline>(meeting.ask(meeting.coordinator.plan()));
    REQUIRE(declines.size() == 1);
    CHECK(has(declines[0].detail, "20 examples in 2 steps"));
    CHECK_FALSE(meeting.job());
  }
}

TEST_CASE("session: a training that fails is told, and the next round goes on") {
  Meeting meeting;
  meeting.ask(meeting.coordinator.plan());
  auto job = meeting.job();
  REQUIRE(job);
  meeting.client.session().on_failed(*job, "the loss of step 3 is not finite");
  const auto declines =
      test::only<wire::Decline>(meeting.coordinator.serve(meeting.client.session()));
  REQUIRE(declines.size() == 1);
  CHECK(declines[0].refusal == Refusal::TrainingFailed);
  CHECK(declines[0].detail == "the loss of step 3 is not finite");
  meeting.coordinator.publish(small_version());
  meeting.take_part();
}

TEST_CASE("session: the loser of two processes with one key is told, and stops") {
  Meeting meeting;
  const std::string error = error_of([&] {
    meeting.client.session().on_message(wire::Refused{Refusal::Superseded, "from 10.0.0.7"});
  });
  CHECK(has(error, "client-1: another process with this key has taken its place"));
  meeting.client.session().on_message(wire::Refused{Refusal::WrongBase, "not at a Hello"});

  RestartableClient turned_away;
  CHECK(has(error_of([&] {
              turned_away.session().on_message(wire::Refused{Refusal::WrongBase, "base model aa"});
            }),
            "turns this client away: base model aa"));
}

}  // namespace
}  // namespace drystone::client
