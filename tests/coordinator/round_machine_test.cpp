#include "coordinator/round_machine.h"

#include <algorithm>
#include <chrono>

#include <doctest/doctest.h>

#include "core/config.h"
#include "core/seed.h"

using namespace drystone::coordinator;
namespace core = drystone::core;
namespace wire = drystone::wire;
using namespace std::chrono_literals;

namespace {

MachineSettings settings(std::uint64_t clients, std::uint64_t rounds) {
  MachineSettings s{.federation = "f", .seed = 7, .rounds = rounds, .deadline = 60s, .grace = 10s};
  std::vector<std::string> trainers;
  for (std::uint64_t i = 1; i <= clients; ++i) trainers.push_back("client-" + std::to_string(i));
  std::ranges::sort(trainers);
  s.trainers = std::move(trainers);
  return s;
}

std::vector<std::string> trainers_of(const MachineSettings& s) {
  return s.trainers.longest(s.trainers.size());
}

template <typename T>
std::vector<T> only(const std::vector<Action>& actions) {
  std::vector<T> found;
  for (const Action& action : actions) {
    if (const auto* a = std::get_if<T>(&action)) found.push_back(*a);
  }
  return found;
}

UpdateAccepted update_of(const std::string& client) {
  return {{.client = client, .num_examples = 1}};
}

std::vector<Action> join_all(RoundMachine& machine, const MachineSettings& s) {
  std::vector<Action> all;
  for (const auto& client : trainers_of(s)) {
    const auto actions = machine.handle(Joined{client}, 0s);
    all.insert(all.end(), actions.begin(), actions.end());
  }
  return all;
}

}  // namespace

TEST_CASE("round machine: whoever leaves the roster is out of the open round, others close it") {
  auto s = settings(3, 1);
  s.quorum = 2;
  RoundMachine machine(s, {}, 0s);
  join_all(machine, s);
  machine.handle(update_of("client-1"), 0s);
  machine.handle(update_of("client-2"), 0s);
  auto left = settings(2, 1);
  const wire::RosterMark mark{.change = 1, .digest = {1}};
  SUBCASE("who had not answered: the round closes") {
    const auto actions =
        machine.handle(MembersChanged{left.trainers, {}, {}, mark, {"client-3"}}, 0s);
    const auto closed = only<Aggregate>(actions);
    REQUIRE(closed.size() == 1);
    CHECK(closed[0].round.accepted.size() == 2);
  }
  SUBCASE("who had: without its update, and the quorum may still be reached") {
    left.trainers = std::vector<std::string>{"client-2", "client-3"};
    CHECK(machine.handle(MembersChanged{left.trainers, {}, {}, mark, {"client-1"}}, 0s).empty());
    CHECK(machine.collecting()->accepted.size() == 1);
    CHECK(only<Aggregate>(machine.handle(update_of("client-3"), 0s)).size() == 1);
  }
  SUBCASE("nobody left for a quorum: planned anew, as often as it takes") {
    left.trainers = std::vector<std::string>{"client-2"};
    const auto actions =
        machine.handle(MembersChanged{left.trainers, {}, {}, mark, {"client-1", "client-3"}}, 0s);
    CHECK(only<Abandon>(actions).size() == 1);
    CHECK(only<Fail>(actions).empty());
    CHECK_FALSE(machine.is_finished());
    left.trainers = std::vector<std::string>{"client-2", "client-4"};
    CHECK(machine.handle(MembersChanged{left.trainers, {}, {}, mark, {}}, 0s).empty());
    const auto plans = only<PersistPlan>(machine.handle(Joined{"client-4"}, 0s));
    REQUIRE(plans.size() == 1);
    CHECK(plans[0].plan.roster == mark);
    CHECK(plans[0].plan.cohort == std::vector<std::string>{"client-2", "client-4"});
  }
}

TEST_CASE("round machine: an evaluator that left is not waited for") {
  auto s = settings(1, 1);
  s.evaluators = {"evaluator"};
  RoundMachine machine(s, {}, 0s);
  join_all(machine, s);
  machine.handle(update_of("client-1"), 0s);
  CHECK(only<Finish>(machine.handle(Published{1, {}}, 0s)).empty());
  const auto actions = machine.handle(MembersChanged{s.trainers, {}, {}, {}, {"evaluator"}}, 0s);
  CHECK(only<Finish>(actions).size() == 1);
}

TEST_CASE("round machine: opens when everybody is there and persists the plan before any task") {
  const auto s = settings(3, 1);
  RoundMachine machine(s, {}, 0s);
  CHECK(machine.handle(Joined{"client-1"}, 0s).empty());
  CHECK(machine.handle(Joined{"client-2"}, 0s).empty());
  const auto actions = machine.handle(Joined{"client-3"}, 0s);
  REQUIRE(actions.size() == 4);
  CHECK(std::holds_alternative<PersistPlan>(actions.front()));
  CHECK(only<SendTask>(actions).size() == 3);
  CHECK(only<PersistPlan>(actions).front().plan.cohort == trainers_of(s));
}

TEST_CASE("round machine: a whole federation, evaluated at the end") {
  auto s = settings(2, 2);
  s.evaluators = {"evaluator"};
  RoundMachine machine(s, {}, 0s);
  CHECK(only<RequestEvaluation>(machine.handle(Joined{"evaluator"}, 0s)).front().version == 0);
  join_all(machine, s);
  machine.handle(update_of("client-2"), 1s);
  const auto closing = machine.handle(update_of("client-1"), 1s);
  const auto aggregate = only<Aggregate>(closing);
  REQUIRE(aggregate.size() == 1);
  CHECK(aggregate.front().round.accepted.begin()->first == "client-1");
  CHECK(only<SendTask>(machine.handle(Published{1, {}}, 2s)).size() == 2);
  machine.handle(update_of("client-1"), 3s);
  machine.handle(update_of("client-2"), 3s);
  CHECK(only<Finish>(machine.handle(Published{2, {}}, 4s)).empty());
  CHECK(only<RequestEvaluation>(machine.handle(Evaluated{"evaluator", 0}, 5s)).front().version ==
        1);
  CHECK(only<RequestEvaluation>(machine.handle(Evaluated{"evaluator", 1}, 5s)).front().version ==
        2);
  CHECK(only<Finish>(machine.handle(Evaluated{"evaluator", 2}, 6s)).size() == 1);
  CHECK(machine.is_finished());
}

TEST_CASE("round machine: the deadline closes a round that has its quorum") {
  auto s = settings(3, 1);
  s.quorum = 2;
  RoundMachine machine(s, {}, 0s);
  join_all(machine, s);
  machine.handle(update_of("client-1"), 1s);
  machine.handle(update_of("client-3"), 1s);
  CHECK(machine.handle(TimePassed{}, 59s).empty());
  const auto actions = machine.handle(TimePassed{}, 60s);
  REQUIRE(only<Aggregate>(actions).size() == 1);
  CHECK(only<Aggregate>(actions).front().round.accepted.size() == 2);
}

TEST_CASE(
    "round machine: below the quorum the round is abandoned and planned anew without the refused") {
  auto s = settings(4, 1);
  s.quorum = 3;
  RoundMachine machine(s, {}, 0s);
  join_all(machine, s);
  machine.handle(update_of("client-1"), 1s);
  machine.handle(UpdateRefused{"client-2", core::Refusal::NotFinite}, 1s);
  const auto actions = machine.handle(TimePassed{}, 60s);
  REQUIRE(only<Abandon>(actions).size() == 1);
  CHECK(only<Abandon>(actions).front().reason.find("client-2: not-finite") != std::string::npos);
  CHECK(only<SendTask>(actions).empty());  // client-3 and client-4 did not answer: wait for them
  machine.handle(Joined{"client-3"}, 61s);
  const auto again = machine.handle(Joined{"client-4"}, 61s);
  REQUIRE(only<PersistPlan>(again).size() == 1);
  CHECK(only<PersistPlan>(again).front().plan.attempt == 1);
  CHECK(only<PersistPlan>(again).front().plan.cohort ==
        std::vector<std::string>{"client-1", "client-3", "client-4"});
}

TEST_CASE("round machine: a quorum that is out of reach ends the attempt at once, and takes none") {
  auto s = settings(8, 1);
  s.cohort = 4;
  s.quorum = 3;
  s.max_attempts = 1;
  RoundMachine machine(s, {}, 0s);
  join_all(machine, s);
  const std::vector<std::string> cohort = machine.collecting()->plan.cohort;
  CHECK(machine.handle(UpdateRefused{cohort[0], core::Refusal::SettingsDiffer}, 1s).empty());
  const auto actions = machine.handle(UpdateRefused{cohort[2], core::Refusal::TrainingFailed}, 2s);
  REQUIRE(only<Abandon>(actions).size() == 1);
  CHECK(only<Abandon>(actions).front().reason ==
        "0 of 4 updates accepted, quorum is 3, which it can no longer reach; " + cohort[0] +
            ": settings-differ; " + cohort[2] + ": training-failed");
  CHECK(only<NameMissing>(actions).empty());  // whoever still trains has not been silent
  REQUIRE(only<PersistPlan>(actions).size() == 1);
  const wire::RoundPlan next = only<PersistPlan>(actions).front().plan;
  CHECK(next.attempt == 1);
  CHECK(next.cohort.size() == 4);
  for (const std::size_t still : {1U, 3U}) CHECK(std::ranges::count(next.cohort, cohort[still]));
  for (const std::size_t out : {0U, 2U}) CHECK_FALSE(std::ranges::count(next.cohort, cohort[out]));
}

TEST_CASE("round machine: over-selection makes up for as many as it asks more") {
  auto s = settings(6, 1);
  s.cohort = 3;
  s.asked = 5;
  s.quorum = 3;
  RoundMachine machine(s, {}, 0s);
  join_all(machine, s);
  const std::vector<std::string> cohort = machine.collecting()->plan.cohort;
  REQUIRE(cohort.size() == 5);
  CHECK(machine.handle(UpdateRefused{cohort[0], core::Refusal::NotFinite}, 1s).empty());
  CHECK(machine.handle(UpdateRefused{cohort[1], core::Refusal::NotFinite}, 1s).empty());
  CHECK(only<Abandon>(machine.handle(UpdateRefused{cohort[2], core::Refusal::NotFinite}, 1s))
            .size() == 1);
}

TEST_CASE("round machine: a quorum that the roster cannot make any more fails at once, by name") {
  auto s = settings(4, 2);
  s.quorum = 3;
  RoundMachine machine(s, {}, 0s);
  join_all(machine, s);
  CHECK(machine.handle(UpdateRefused{"client-2", core::Refusal::SettingsDiffer}, 1s).empty());
  const auto actions = machine.handle(UpdateRefused{"client-4", core::Refusal::NotFinite}, 2s);
  REQUIRE(only<Fail>(actions).size() == 1);
  CHECK(only<Fail>(actions).front().reason ==
        "round 1 abandoned once: 0 of 4 updates accepted, quorum is 3, which it can no longer "
        "reach; client-2: settings-differ; client-4: not-finite; mend these clients, then start "
        "again");
  CHECK(machine.is_finished());
}

TEST_CASE("round machine: a simulation hears of all before it plans anew") {
  auto s = settings(4, 1);
  s.quorum = 3;
  s.all_are_there = true;
  RoundMachine machine(s, {}, 0s);
  machine.handle(TimePassed{}, 0s);
  machine.handle(UpdateRefused{"client-1", core::Refusal::NotFinite}, 1s);
  CHECK(machine.handle(UpdateRefused{"client-2", core::Refusal::NotFinite}, 1s).empty());
  CHECK(machine.collecting() != nullptr);
}

TEST_CASE("round machine: fails with the reason when too few clients are left") {
  const auto s = settings(2, 1);
  RoundMachine machine(s, {}, 0s);
  join_all(machine, s);
  machine.handle(update_of("client-1"), 1s);
  const auto failed =
      only<Fail>(machine.handle(UpdateRefused{"client-2", core::Refusal::NotFinite}, 2s));
  REQUIRE(failed.size() == 1);
  const std::string& reason = failed.front().reason;
  CHECK(reason.find("round 1 abandoned once: ") != std::string::npos);
  CHECK(reason.find("client-2: not-finite; mend these clients, then") != std::string::npos);
  CHECK(reason.find("federation.quorum") == std::string::npos);  // would publish without it
}

TEST_CASE("round machine: who does not answer is named when that ends the federation") {
  auto s = settings(2, 1);
  s.max_attempts = 1;
  RoundMachine machine(s, {}, 0s);
  join_all(machine, s);
  machine.handle(update_of("client-1"), 2s);
  const auto failed = only<Fail>(machine.handle(TimePassed{}, 60s));
  REQUIRE(failed.size() == 1);
  CHECK(failed.front().reason.find("client-2: no answer; see that these clients run") !=
        std::string::npos);
}

TEST_CASE("round machine: a client that comes back gets its open task again") {
  const auto s = settings(2, 1);
  RoundMachine machine(s, {}, 0s);
  join_all(machine, s);
  CHECK(only<SendTask>(machine.handle(Joined{"client-1"}, 5s)).size() == 1);
  machine.handle(update_of("client-1"), 6s);
  CHECK(machine.handle(Joined{"client-1"}, 7s).empty());
}

TEST_CASE("round machine: waits without end for a quorum") {
  const auto s = settings(2, 1);
  RoundMachine machine(s, {}, 0s);
  machine.handle(Joined{"client-1"}, 0s);
  CHECK(only<KeepWaiting>(machine.handle(TimePassed{}, 60s)).front().quorum == 2);
  CHECK(only<PersistPlan>(machine.handle(Joined{"client-2"}, 70s)).size() == 1);
}

TEST_CASE("round machine: a quorum that comes just before a notice is due waits without spinning") {
  auto s = settings(3, 1);
  s.quorum = 1;
  s.grace = 300s;
  RoundMachine machine(s, {}, 0s);
  machine.handle(Joined{"client-1"}, 55s);
  for (core::Instant now = 55s; now < core::Instant(355s);) {
    REQUIRE(machine.next_deadline().has_value());
    REQUIRE(*machine.next_deadline() > now);
    now = *machine.next_deadline();
    const auto actions = machine.handle(TimePassed{}, now);
    CHECK(only<PersistPlan>(actions).size() == (now == core::Instant(355s) ? 1U : 0U));
  }
}

TEST_CASE("round machine: cohorts differ from round to round, not from run to run") {
  auto s = settings(20, 3);
  s.cohort = 5;
  std::vector<std::vector<std::string>> runs[2];
  for (auto& cohorts : runs) {
    RoundMachine machine(s, {}, 0s);
    auto actions = join_all(machine, s);
    for (std::uint64_t round = 1; round <= 3; ++round) {
      const auto plans = only<PersistPlan>(actions);
      REQUIRE(plans.size() == 1);
      cohorts.push_back(plans.front().plan.cohort);
      for (const auto& client : cohorts.back()) machine.handle(update_of(client), 1s);
      actions = machine.handle(Published{round, {}}, 2s);
    }
  }
  CHECK(runs[0] == runs[1]);
  CHECK(runs[0][0] != runs[0][1]);
}

TEST_CASE("round machine: opens a grace after its quorum is there, and says who is missing") {
  auto s = settings(4, 1);
  s.quorum = 2;
  RoundMachine machine(s, {}, 0s);
  CHECK(machine.handle(Joined{"client-1"}, 1s).empty());
  CHECK(machine.handle(Joined{"client-3"}, 5s).empty());
  CHECK(machine.next_deadline() == core::Instant(15s));
  CHECK(machine.handle(TimePassed{}, 14s).empty());
  const auto actions = machine.handle(TimePassed{}, 15s);
  REQUIRE(only<PersistPlan>(actions).size() == 1);
  CHECK(only<PersistPlan>(actions).front().plan.cohort ==
        std::vector<std::string>{"client-1", "client-3"});
  REQUIRE(only<NameMissing>(actions).size() == 1);
  CHECK(only<NameMissing>(actions).front().clients ==
        std::vector<std::string>{"client-2", "client-4"});
  CHECK_FALSE(only<NameMissing>(actions).front().were_asked);
}

TEST_CASE("round machine: times and attempts at the ends of what a configuration may say") {
  constexpr core::Instant kLongest = std::chrono::hours(365 * 24);
  for (const core::Instant deadline : {core::Instant(1ms), kLongest}) {
    for (const core::Instant grace : {core::Instant(1ms), kLongest}) {
      for (const std::uint64_t attempts : {std::uint64_t{1}, std::uint64_t{1'000'000'000}}) {
        auto s = settings(2, 1'000'000'000);
        s.quorum = core::kHalf;
        s.deadline = deadline;
        s.grace = grace;
        s.max_attempts = attempts;
        core::Instant now = kLongest;  // a machine that has run for a year
        RoundMachine machine(s, {}, now);
        machine.handle(Joined{"client-1"}, now);
        CHECK(machine.next_deadline() == std::min(now + grace, now + core::Instant(60s)));
        now += grace;
        CHECK(only<PersistPlan>(machine.handle(TimePassed{}, now)).size() == 1);
        CHECK(machine.next_deadline() == now + deadline);
        now += deadline;
        const auto actions = machine.handle(TimePassed{}, now);
        CHECK(only<Abandon>(actions).size() == 1);
        CHECK(only<Fail>(actions).size() == (attempts == 1 ? 1 : 0));
      }
    }
  }
}

TEST_CASE("round machine: without a quorum it says who is missing, every minute") {
  auto s = settings(3, 1);
  s.quorum = 2;
  RoundMachine machine(s, {}, 0s);
  machine.handle(Joined{"client-2"}, 1s);
  for (const core::Instant now : {core::Instant(60s), core::Instant(120s)}) {
    const auto waiting = only<KeepWaiting>(machine.handle(TimePassed{}, now));
    REQUIRE(waiting.size() == 1);
    CHECK(waiting.front().present == 1);
    CHECK(waiting.front().missing == std::vector<std::string>{"client-1", "client-3"});
  }
}

TEST_CASE("round machine: a dead client costs one deadline, and is named in every round") {
  auto s = settings(3, 5);
  s.quorum = core::kHalf;
  RoundMachine machine(s, {}, 0s);
  join_all(machine, s);
  core::Instant now = 0s;
  for (std::uint64_t round = 1; round <= 5; ++round) {
    CAPTURE(round);
    machine.handle(update_of("client-1"), now);
    auto actions = machine.handle(update_of("client-2"), now);
    if (round == 1) {  // client-3 was killed while it trained
      CHECK(actions.empty());
      now += 60s;
      actions = machine.handle(TimePassed{}, now);
      REQUIRE(only<NameMissing>(actions).size() == 1);
      CHECK(only<NameMissing>(actions).front().were_asked);
    }
    REQUIRE(only<Aggregate>(actions).size() == 1);
    if (round == 5) break;
    actions = machine.handle(Published{round, {}}, now);
    REQUIRE(only<PersistPlan>(actions).size() == 1);  // at once: nobody waits for it
    CHECK(only<PersistPlan>(actions).front().plan.cohort.size() == 2);
    CHECK(only<NameMissing>(actions).front().clients == std::vector<std::string>{"client-3"});
  }
}

TEST_CASE("round machine: who says Hello and stays silent is asked ever more rarely") {
  auto s = settings(3, 40);
  s.quorum = core::kHalf;
  RoundMachine machine(s, {}, 0s);
  auto actions = join_all(machine, s);
  core::Instant now = 0s;
  int num_asked = 0;
  for (std::uint64_t round = 1; round <= 40; ++round) {
    const bool is_asked = only<PersistPlan>(actions).front().plan.cohort.size() == 3;
    num_asked += is_asked ? 1 : 0;
    machine.handle(update_of("client-1"), now);
    machine.handle(update_of("client-2"), now);
    if (is_asked) machine.handle(TimePassed{}, now += 60s);
    machine.handle(Joined{"client-3"}, now);
    actions = machine.handle(Published{round, {}}, now);
  }
  CHECK(num_asked == 6);  // rounds 1, 2, 4, 8, 16, 32
}

TEST_CASE("round machine: who is asked for the quorum is neither missing nor left out") {
  auto s = settings(3, 2);
  s.quorum = 2;
  RoundMachine machine(s, {}, 0s);
  join_all(machine, s);
  machine.handle(update_of("client-1"), 1s);
  machine.handle(update_of("client-2"), 1s);
  machine.handle(TimePassed{}, 60s);  // client-3 is silent
  machine.handle(Published{1, {}}, 60s);
  machine.handle(TimePassed{}, 120s);  // so are all in round 2

  machine.handle(Joined{"client-3"}, 121s);
  const auto waiting = only<KeepWaiting>(machine.handle(TimePassed{}, 180s));
  REQUIRE(waiting.size() == 1);
  CHECK(waiting.front().present == 1);
  CHECK(waiting.front().missing == std::vector<std::string>{"client-1", "client-2"});

  const auto actions = machine.handle(Joined{"client-1"}, 181s);  // client-2 is not awaited
  REQUIRE(only<PersistPlan>(actions).size() == 1);
  CHECK(only<PersistPlan>(actions).front().plan.cohort ==
        std::vector<std::string>{"client-1", "client-3"});
  REQUIRE(only<NameMissing>(actions).size() == 1);
  CHECK(only<NameMissing>(actions).front().clients == std::vector<std::string>{"client-2"});
}

TEST_CASE("round machine: a round that cannot be published names the silent once") {
  auto s = settings(3, 2);
  s.quorum = core::kHalf;
  RoundMachine machine(s, {}, 0s);
  join_all(machine, s);
  machine.handle(update_of("client-1"), 1s);
  machine.handle(update_of("client-2"), 1s);
  CHECK(only<NameMissing>(machine.handle(TimePassed{}, 60s)).size() == 1);
  machine.handle(Joined{"client-3"}, 61s);
  const auto actions = machine.handle(NotPublished{"not finite"}, 62s);
  REQUIRE(only<Abandon>(actions).size() == 1);
  CHECK(only<Abandon>(actions).front().reason.ends_with("client-3: no answer"));
  REQUIRE(only<NameMissing>(actions).size() == 1);
  CHECK_FALSE(only<NameMissing>(actions).front().were_asked);  // it rests in the next attempt
}

TEST_CASE("round machine: our own disk's trouble takes no attempt and blames no client") {
  auto s = settings(2, 1);
  s.quorum = core::kHalf;
  s.max_attempts = 1;
  RoundMachine machine(s, {}, 0s);
  join_all(machine, s);
  machine.handle(UpdateRefused{"client-1", core::Refusal::LocalFailure}, 1s);
  const auto actions = machine.handle(UpdateRefused{"client-2", core::Refusal::LocalFailure}, 1s);
  CHECK(only<Abandon>(actions).size() == 1);
  CHECK(only<Fail>(actions).empty());
  CHECK(only<PersistPlan>(actions).empty());  // what is full stays so for a while
  core::Instant now = 1s;
  for (const core::Instant pause : {1s, 2s, 4s, 8s, 16s, 32s, 60s, 60s}) {
    CHECK(machine.next_deadline() == now + pause);
    CHECK(only<PersistPlan>(machine.handle(Joined{"client-1"}, now + pause - 1ms)).empty());
    const auto next = machine.handle(TimePassed{}, now += pause);
    REQUIRE(only<PersistPlan>(next).size() == 1);
    CHECK(only<PersistPlan>(next).front().plan.cohort.size() == 2);
    machine.handle(UpdateRefused{"client-1", core::Refusal::LocalFailure}, now);
    machine.handle(UpdateRefused{"client-2", core::Refusal::LocalFailure}, now);
  }
}

TEST_CASE("round machine: with over-selection the first of those asked make the round") {
  auto s = settings(4, 1);
  s.cohort = 2;
  s.asked = 3;
  s.quorum = 0;
  RoundMachine machine(s, {}, 0s);
  const auto opened = join_all(machine, s);
  REQUIRE(machine.collecting() != nullptr);
  const std::vector<std::string> cohort = machine.collecting()->plan.cohort;
  REQUIRE(cohort.size() == 3);
  CHECK(only<Aggregate>(machine.handle(update_of(cohort[2]), 1s)).empty());
  const auto closed = machine.handle(update_of(cohort[0]), 2s);
  REQUIRE(only<Aggregate>(closed).size() == 1);
  CHECK(only<Aggregate>(closed).front().round.accepted.size() == 2);
  CHECK(only<NameMissing>(closed).empty());  // whoever was not needed has not been silent
  // And it is asked again in the next round without saying Hello anew.
  s.asked = 4;
  RoundMachine other(s, {}, 0s);
  join_all(other, s);
  const std::vector<std::string> all = other.collecting()->plan.cohort;
  CHECK(all.size() == 4);
  other.handle(UpdateRefused{all[0], core::Refusal::NotFinite}, 1s);
  other.handle(UpdateRefused{all[1], core::Refusal::NotFinite}, 1s);
  other.handle(update_of(all[3]), 1s);
  const auto abandoned = other.handle(UpdateRefused{all[2], core::Refusal::NotFinite}, 1s);
  CHECK(only<Abandon>(abandoned).size() == 1);
}

TEST_CASE("round machine: who would be late in a simulated attempt is asked in the next one") {
  for (const bool all_are_there : {false, true}) {
    CAPTURE(all_are_there);
    auto s = settings(3, 1);
    s.cohort = 2;
    s.quorum = 2;
    s.all_are_there = all_are_there;
    RoundMachine machine(s, {}, 0s);
    const auto opened = all_are_there ? machine.handle(TimePassed{}, 0s) : join_all(machine, s);
    REQUIRE(machine.collecting() != nullptr);
    const std::vector<std::string> cohort = machine.collecting()->plan.cohort;
    machine.handle(update_of(cohort[1]), 1s);
    const auto actions = machine.handle(UpdateRefused{cohort[0], core::Refusal::Timeout}, 1s);
    CHECK(only<Abandon>(actions).size() == 1);
    REQUIRE(only<PersistPlan>(actions).size() == 1);
    const std::vector<std::string> next = only<PersistPlan>(actions).front().plan.cohort;
    CHECK(next.size() == 2);
    CHECK((std::ranges::find(next, cohort[0]) != next.end()) == all_are_there);
  }
}

TEST_CASE(
    "round machine: a simulation publishes no round that lacks what our own disk did not take") {
  for (const bool all_are_there : {false, true}) {
    CAPTURE(all_are_there);
    auto s = settings(2, 1);
    s.quorum = core::kHalf;
    s.all_are_there = all_are_there;
    RoundMachine machine(s, {}, 0s);
    join_all(machine, s);
    machine.handle(update_of("client-1"), 1s);
    const auto actions = machine.handle(UpdateRefused{"client-2", core::Refusal::LocalFailure}, 1s);
    CHECK(only<Aggregate>(actions).size() == (all_are_there ? 0 : 1));
    CHECK(only<Abandon>(actions).size() == (all_are_there ? 1 : 0));
    CHECK(only<Fail>(actions).empty());
  }
}

TEST_CASE("round machine: whoever left the roster in an open round ends nothing") {
  for (const int left : {1, 2}) {
    CAPTURE(left);
    auto s = settings(3, 1);
    s.quorum = 0;
    RoundMachine before(s, {}, 0s);
    const auto plan = only<PersistPlan>(join_all(before, s)).front().plan;
    s.trainers = s.trainers.longest(static_cast<std::size_t>(3 - left));
    RoundMachine machine(s, {.version = 0, .head = {}, .open = OpenRound{plan, {}}}, 0s);
    for (const std::string& client : trainers_of(s)) machine.handle(Joined{client}, 0s);
    std::vector<Action> actions;
    for (int i = 3; i > 3 - left; --i) {
      const auto more = machine.handle(
          UpdateRefused{"client-" + std::to_string(i), core::Refusal::UnknownClient}, 0s);
      actions.insert(actions.end(), more.begin(), more.end());
    }
    CHECK(only<Fail>(actions).empty());
    REQUIRE(only<PersistPlan>(actions).size() == 1);
    CHECK(only<PersistPlan>(actions).front().plan.cohort == trainers_of(s));
  }
}

TEST_CASE("round machine: updates that no version can be made of are dropped, thrice at most") {
  const auto s = settings(1, 1);
  RoundMachine machine(s, {}, 0s);
  join_all(machine, s);
  for (int attempt = 1; attempt <= 3; ++attempt) {
    REQUIRE(only<Aggregate>(machine.handle(update_of("client-1"), 1s)).size() == 1);
    const auto actions = machine.handle(NotPublished{"not finite"}, 1s);
    CHECK(only<Abandon>(actions).front().reason.find("not finite") != std::string::npos);
    CHECK(only<Fail>(actions).size() == (attempt == 3 ? 1 : 0));
  }
}

// Whatever one member does, the others finish: silence, refusals, coming and going.
TEST_CASE("round machine: with the default quorum no single member ends the federation") {
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    CAPTURE(seed);
    core::SplitMix64 random(seed);
    auto s = settings(2 + random.below(6), 1 + random.below(4));
    s.cohort = random.below(s.trainers.size() + 1);
    s.quorum = core::kHalf;
    const std::string foe = s.trainers[random.below(s.trainers.size())];
    core::Instant now{};
    RoundMachine machine(s, {}, now);
    bool is_over = false;
    std::vector<Action> actions = join_all(machine, s);
    for (int step = 0; step < 1000 && !is_over; ++step) {
      std::vector<Action> next;
      const auto handle = [&](const Event& event) {
        const auto more = machine.handle(event, now);
        next.insert(next.end(), more.begin(), more.end());
      };
      for (const Action& action : actions) {
        CHECK_FALSE(std::holds_alternative<Fail>(action));
        if (const auto* task = std::get_if<SendTask>(&action); task && task->client != foe) {
          handle(update_of(task->client));
        }
        if (std::holds_alternative<Aggregate>(action)) handle(Published{machine.version() + 1, {}});
        if (std::holds_alternative<Finish>(action)) is_over = true;
      }
      switch (random.below(4)) {
        case 0: handle(Joined{foe}); break;
        case 1:
          if (machine.collecting() != nullptr) {
            handle(UpdateRefused{foe, core::Refusal::ExamplesAboveCap});
          }
          break;
        default: break;
      }
      now += 7s;
      handle(TimePassed{});
      actions = std::move(next);
      if (machine.is_finished()) is_over = true;
    }
    CHECK(machine.version() == s.rounds);
  }
}

// Thousands of seeded schedules of joins, losses, refusals, duplicates, restarts and time.
TEST_CASE("round machine: whatever the schedule, versions count up and nobody counts twice") {
  int num_finished = 0;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    CAPTURE(seed);
    core::SplitMix64 random(seed);
    auto s = settings(1 + random.below(6), 1 + random.below(4));
    s.cohort = random.below(s.trainers.size() + 1);
    s.quorum =
        static_cast<std::int64_t>(random.below((s.cohort == 0 ? s.trainers.size() : s.cohort) + 1));
    if (random.below(3) == 0) s.quorum = core::kHalf;
    s.grace = std::chrono::seconds(random.below(30));
    s.max_attempts = 1000;
    core::Instant now{};
    MachineState durable;  // what a store would hold
    auto machine = std::make_unique<RoundMachine>(s, durable, now);
    std::optional<Aggregate> aggregating;
    bool over = false;
    const auto apply = [&](const std::vector<Action>& actions) {
      for (const Action& action : actions) {
        if (const auto* plan = std::get_if<PersistPlan>(&action)) {
          CHECK(plan->plan.round == durable.version + 1);
          durable.open = OpenRound{plan->plan, {}};
        } else if (const auto* task = std::get_if<SendTask>(&action)) {
          REQUIRE(durable.open.has_value());
          CHECK(std::ranges::binary_search(durable.open->plan.cohort, task->client));
        } else if (const auto* aggregate = std::get_if<Aggregate>(&action)) {
          CHECK_FALSE(aggregating.has_value());
          CHECK(aggregate->round.accepted.size() == durable.open->accepted.size());
          aggregating = *aggregate;
        } else if (std::holds_alternative<Abandon>(action)) {
          durable.open.reset();
        } else if (std::holds_alternative<Finish>(action)) {
          CHECK(durable.version == s.rounds);
          over = true;
          ++num_finished;
        } else if (std::holds_alternative<Fail>(action)) {
          over = true;
        }
      }
    };
    for (int step = 0; step < 400 && !over; ++step) {
      const std::string client = s.trainers[random.below(s.trainers.size())];
      switch (random.below(8)) {
        case 0:
        case 1: apply(machine->handle(Joined{client}, now)); break;
        case 2:
        case 3:
        case 4:
          if (const OpenRound* round = machine->collecting();
              round != nullptr && std::ranges::binary_search(round->plan.cohort, client)) {
            durable.open->accepted.emplace(client, update_of(client).update);
            apply(machine->handle(update_of(client), now));
          }
          break;
        case 5:
          if (random.below(10) == 0 && machine->collecting() != nullptr &&
              !durable.open->accepted.contains(client)) {
            apply(machine->handle(UpdateRefused{client, core::Refusal::NotFinite}, now));
          }
          break;
        case 6:
          now += 20s;
          apply(machine->handle(TimePassed{}, now));
          break;
        default:
          if (random.below(20) == 0) {  // crash and restart from what is durable
            aggregating.reset();
            machine = std::make_unique<RoundMachine>(s, durable, now);
          }
      }
      if (aggregating && random.below(2) == 0) {
        durable.version += 1;
        durable.open.reset();
        aggregating.reset();
        apply(machine->handle(Published{durable.version, {}}, now));
      }
    }
    CHECK(durable.version <= s.rounds);
    CHECK(machine->version() == durable.version);
  }
  CHECK(num_finished > 1000);  // liveness: the schedules are not all stuck
}

TEST_CASE("round machine: what must not be published abandons the round, and in the end fails") {
  const auto s = settings(2, 1);
  RoundMachine machine(s, {}, 0s);
  join_all(machine, s);
  for (std::uint64_t attempt = 1; attempt <= s.max_attempts; ++attempt) {
    CAPTURE(attempt);
    machine.handle(update_of("client-1"), 1s);
    REQUIRE(only<Aggregate>(machine.handle(update_of("client-2"), 1s)).size() == 1);
    const auto actions = machine.handle(NotPublished{"m: NaN at element 3"}, 2s);
    REQUIRE(only<Abandon>(actions).size() == 1);
    CHECK(only<Abandon>(actions).front().reason.starts_with("m: NaN at element 3; "));
    CHECK(only<PersistPlan>(actions).size() == (attempt < s.max_attempts ? 1 : 0));
    CHECK(machine.is_finished() == (attempt == s.max_attempts));
  }
  CHECK(machine.version() == 0);
}

TEST_CASE("round machine: a version of no use ends the federation at once, whatever it waits for") {
  const auto s = settings(2, 2);
  RoundMachine machine(s, {}, 0s);
  join_all(machine, s);
  const auto actions = machine.handle(Unsound{"version 1: why"}, 1s);
  REQUIRE(only<Fail>(actions).size() == 1);
  CHECK(only<Fail>(actions).front().reason == "version 1: why");
  CHECK(machine.is_finished());
  CHECK(machine.handle(Unsound{"again"}, 2s).empty());
  CHECK(machine.handle(update_of("client-1"), 2s).empty());
}

TEST_CASE(
    "round machine: opens with the last join that is awaited, in any order, with any rejoins") {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    CAPTURE(seed);
    auto s = settings(9, 1);
    s.cohort = 4;
    core::SplitMix64 random({seed, 0, "", "joins"});
    std::vector<std::string> order = trainers_of(s);
    core::shuffle(order, random);
    RoundMachine machine(s, {}, 0s);
    for (std::size_t i = 0; i + 1 < order.size(); ++i) {
      CHECK(machine.handle(Joined{order[i]}, 0s).empty());
      CHECK(machine.handle(Joined{order[random.below(i + 1)]}, 0s).empty());
      CHECK(machine.handle(Joined{"stranger"}, 0s).empty());
    }
    const auto actions = machine.handle(Joined{order.back()}, 0s);
    CHECK(only<PersistPlan>(actions).size() == 1);
    CHECK(only<SendTask>(actions).size() == 4);
  }
}

TEST_CASE(
    "round machine: where all are there, a round asks whom it would ask after all have joined") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    auto joined = settings(9, 1);
    joined.seed = seed;
    joined.cohort = 4;
    auto there = joined;
    there.all_are_there = true;
    there.trainers = core::NameList::numbered("client-", 9);
    RoundMachine one(joined, {}, 0s);
    RoundMachine other(there, {}, 0s);
    const auto expected = only<PersistPlan>(join_all(one, joined)).front().plan.cohort;
    const auto actions = other.handle(TimePassed{}, 0s);
    CHECK(only<PersistPlan>(actions).front().plan.cohort == expected);
    CHECK(only<NameMissing>(actions).empty());
    // Who says Hello only now hears its task again, and nothing else changes.
    const auto greeted = other.handle(Joined{expected.front()}, 1s);
    REQUIRE(greeted.size() == 1);
    CHECK(only<SendTask>(greeted).front().client == expected.front());
    CHECK_FALSE(other.next_deadline().value() < 24h);
  }
}

TEST_CASE("round machine: where all are there, who failed is not asked again for the same round") {
  auto s = settings(4, 1);
  s.all_are_there = true;
  s.quorum = 3;
  s.cohort = 3;
  RoundMachine machine(s, {}, 0s);
  const auto first = only<PersistPlan>(machine.handle(TimePassed{}, 0s)).front().plan.cohort;
  machine.handle(UpdateRefused{first[0], core::Refusal::TrainingFailed}, 0s);
  machine.handle(update_of(first[1]), 0s);
  const auto again = only<PersistPlan>(machine.handle(update_of(first[2]), 0s));
  REQUIRE(again.size() == 1);
  CHECK(again.front().plan.attempt == 1);
  CHECK_FALSE(std::ranges::binary_search(again.front().plan.cohort, first[0]));
  CHECK(again.front().plan.cohort.size() == 3);
}

TEST_CASE("round machine: an evaluator that has nothing to do is asked with the next version") {
  auto s = settings(1, 1);
  s.evaluators = {"evaluator", "other"};
  RoundMachine machine(s, {}, 0s);
  CHECK(only<RequestEvaluation>(machine.handle(Joined{"evaluator"}, 0s)).size() == 1);
  CHECK(machine.handle(Evaluated{"evaluator", 0}, 1s).empty());
  join_all(machine, s);
  CHECK(only<Aggregate>(machine.handle(update_of("client-1"), 2s)).size() == 1);
  const auto asked = only<RequestEvaluation>(machine.handle(Published{1, {}}, 3s));
  REQUIRE(asked.size() == 1);  // the other one never came
  CHECK(asked.front().client == "evaluator");
  CHECK(asked.front().version == 1);
}

TEST_CASE("round machine: without a trainer there is no federation") {
  CHECK_THROWS_AS(RoundMachine(settings(0, 1), {}, 0s), core::InvalidArgument);
}
