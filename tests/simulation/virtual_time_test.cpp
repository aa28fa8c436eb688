#include "simulation/virtual_time.h"

#include <cmath>
#include <fstream>
#include <map>
#include <set>

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/simulation/stop_after_first_version.h"
#include "tests/simulation/tiny_language_model.h"

using namespace drystone;
using namespace std::chrono_literals;
using simulation::Fate;
using simulation::VirtualTime;

namespace {

wire::RoundPlan plan_of(std::uint64_t round, std::uint64_t attempt = 0) {
  wire::RoundPlan plan;
  plan.round = round;
  plan.attempt = attempt;
  return plan;
}

coordinator::RoundReport row_of(const VirtualTime& time) {
  coordinator::RoundReport row;
  row.simulated = time.taken();
  return row;
}

/// Minute by minute, as the words say it.
double minutes_until_available(const core::Device& device, int minute_of_day) {
  for (int wait = 0; wait <= 24 * 60; ++wait) {
    const auto at = std::chrono::minutes((minute_of_day + wait) % (24 * 60));
    for (const core::DayWindow& window : device.available) {
      const bool over_midnight = window.end < window.begin;
      const bool is_in = over_midnight ? at >= window.begin || at < window.end
                                       : at >= window.begin && at < window.end;
      if (is_in) return wait;
    }
  }
  return -1.0;
}

}  // namespace

TEST_CASE("virtual time: a client's answer takes its transfers, latency and training") {
  VirtualTime time(1, 100.0);
  const core::Device device{
      .name = "d", .tokens_per_second = 50.0, .up = 10, .down = 40, .latency = 500ms, .watts = 3.0};
  const core::Device slow{.name = "e", .tokens_per_second = 1.0};
  const auto fates = time.open(
      plan_of(1),
      {{"a", device, {.tokens = 200.0, .bytes_down = 80, .bytes_up = 30}}, {"b", slow, {7.0}}}, 2);
  CHECK(fates[0].kind == Fate::Kind::Arrives);
  CHECK(fates[0].seconds == doctest::Approx(2.0 + 4.0 + 3.0 + 1.0));
  CHECK(fates[1].seconds == doctest::Approx(7.0));
  const auto& taken = time.taken();
  CHECK(taken.seconds == doctest::Approx(10.0));
  CHECK(taken.clock == doctest::Approx(10.0));
  CHECK(taken.busy_seconds == doctest::Approx(4.0 + 7.0));
  CHECK(taken.joules == doctest::Approx(12.0));
  CHECK(taken.late + taken.dropped + taken.surplus == 0);
}

TEST_CASE("virtual time: who is late costs the deadline, and so does each abandoned attempt") {
  VirtualTime time(1, 60.0);
  const core::Device device{.name = "d", .tokens_per_second = 1.0};
  const std::vector<simulation::Task> both = {{"quick", device, {10.0}}, {"late", device, {61.0}}};
  CHECK(time.open(plan_of(1), both, 2)[1].kind == Fate::Kind::Late);
  CHECK(time.taken().late == 1);
  CHECK(time.taken().seconds == doctest::Approx(60.0));
  time.open(plan_of(1, 2), {both[0]}, 1);
  CHECK(time.taken().seconds == doctest::Approx(2 * 60.0 + 10.0));
  CHECK(time.taken().busy_seconds == doctest::Approx(10.0));
  time.close(row_of(time));
  time.open(plan_of(2), {{"quick", device, {5.0}}}, 1);
  CHECK(time.taken().seconds == doctest::Approx(5.0));
  CHECK(time.taken().clock == doctest::Approx(135.0));
}

TEST_CASE("virtual time: of more than are wanted the first make the round") {
  VirtualTime time(1, 60.0);
  const core::Device device{.name = "d", .tokens_per_second = 1.0};
  const auto fates = time.open(
      plan_of(1),
      {{"a", device, {30.0}}, {"b", device, {70.0}}, {"c", device, {10.0}}, {"d", device, {20.0}}},
      2);
  CHECK(fates[0].kind == Fate::Kind::Surplus);
  CHECK(fates[1].kind == Fate::Kind::Late);
  CHECK(fates[2].kind == Fate::Kind::Arrives);
  CHECK(fates[3].kind == Fate::Kind::Arrives);
  CHECK(time.taken().seconds == doctest::Approx(20.0));
  CHECK(time.taken().surplus == 1);
}

TEST_CASE("virtual time: a client begins when its device is available") {
  core::Device device{.name = "d", .tokens_per_second = 1.0};
  device.available = {{22h, 6h}, {12h, 13h + 30min}};
  for (int minute = 0; minute < 24 * 60; minute += 7) {
    VirtualTime time(1, 1e9);
    coordinator::RoundReport before;
    before.simulated = coordinator::SimulatedTime{.clock = 3 * 86400.0 + 60.0 * minute};
    time.close(before);
    CHECK(time.open(plan_of(2), {{"a", device, {}}}, 1)[0].seconds ==
          doctest::Approx(60.0 * minutes_until_available(device, minute)));
  }
  device.available = {{0h, 24h}};
  CHECK(VirtualTime(1, 1e9).open(plan_of(1), {{"a", device, {}}}, 1)[0].seconds == 0.0);
}

TEST_CASE("virtual time: failures are as frequent as said, and drawn anew in each attempt") {
  const core::Device device{.name = "d", .tokens_per_second = 1.0, .failures = 0.2};
  std::vector<simulation::Task> tasks;
  tasks.reserve(4000);
  for (int i = 0; i < 4000; ++i) tasks.push_back({"client-" + std::to_string(i), device, {}});
  std::set<std::size_t> dropped[2];
  for (std::uint64_t attempt = 0; attempt < 2; ++attempt) {
    VirtualTime time(9, 60.0);
    const auto fates = time.open(plan_of(4, attempt), tasks, tasks.size());
    for (std::size_t i = 0; i < fates.size(); ++i) {
      if (fates[i].kind == Fate::Kind::Dropped) dropped[attempt].insert(i);
    }
    CHECK(time.taken().dropped == dropped[attempt].size());
    CHECK(std::abs(static_cast<double>(dropped[attempt].size()) - 800.0) < 5.0 * std::sqrt(640.0));
  }
  CHECK(dropped[0] != dropped[1]);
}

TEST_CASE("virtual time: devices are drawn by their shares") {
  const std::vector<core::Device> devices = {
      {.name = "a", .share = 1.0}, {.name = "none", .share = 0.0}, {.name = "b", .share = 3.0}};
  std::map<std::string, int> counts;
  for (int i = 0; i < 4000; ++i) {
    ++counts[simulation::draw_device(devices, 5, "client-" + std::to_string(i)).name];
  }
  CHECK(counts.count("none") == 0);
  CHECK(std::abs(counts["a"] - 1000) < 5 * 28);
  CHECK(counts["a"] + counts["b"] == 4000);
  CHECK_THROWS_AS(simulation::draw_device({{.name = "none", .share = 0.0}}, 5, "client-1"),
                  core::ConfigError);
}

namespace {

/// Three clients: a quick one and two that fail or are late now and then.
class SimulatedTimes {
 public:
  SimulatedTimes() {
    write(R"([[devices]]
name = "server"
tokens_per_second = 1000
share = 0
[[devices]]
name = "phone"
tokens_per_second = 40
down = "20kB"
failures = 0.3
watts = 5
)");
  }
  std::filesystem::path path(const std::string& name) const { return letters_.path(name); }
  void write(const std::string& devices) const {
    std::ofstream(letters_.path("devices.toml")) << devices;
  }
  simulation::SimulationOutcome run(const std::string& out, std::vector<std::string> more = {},
                                    std::vector<coordinator::Observer*> observers = {},
                                    std::stop_token stop = {},
                                    const std::string& deadline = "30s") const {
    more.insert(more.end(),
                {"simulation.profiles=" + letters_.path("devices.toml").string(),
                 "federation.rounds=6", "federation.quorum=1", "federation.deadline=" + deadline});
    return simulation::simulate(
        core::load_config(letters_.path("federation.toml"), more),
        {.run_dir = letters_.path(out), .device = "cpu", .stop = std::move(stop)},
        std::move(observers));
  }

 private:
  test::TinyLanguageModel letters_{
      "[[clients]]\nrank = 8\ndevice = \"server\"\n[[clients]]\ncount = 2\n"};
};

std::string times_of(const coordinator::RunReport& report) {
  std::string text;
  for (const auto& round : report.rounds) {
    REQUIRE(round.simulated);
    const auto& s = *round.simulated;
    text += std::to_string(s.seconds) + " " + std::to_string(s.clock) + " " +
            std::to_string(s.busy_seconds) + " " + std::to_string(s.joules) + " " +
            std::to_string(s.late) + " " + std::to_string(s.dropped) + "\n";
  }
  return text;
}

}  // namespace

TEST_CASE("simulated time: neither workers nor a stop change what happens when") {
  const SimulatedTimes times;
  const auto whole = times.run("whole", {"simulation.workers=1"});
  CHECK(whole.report.rounds.size() == 6);
  std::uint64_t lost = 0;
  for (const auto& round : whole.report.rounds) {
    CHECK(round.accepted + round.simulated->late + round.simulated->dropped == round.asked);
    lost += round.simulated->late + round.simulated->dropped;
  }
  CHECK(lost > 0);
  const auto many = times.run("many", {"simulation.workers=4"});
  CHECK(many.report.head == whole.report.head);
  CHECK(times_of(many.report) == times_of(whole.report));
  test::StopAfterFirstVersion stopper;
  const auto part = times.run("parts", {}, {&stopper}, stopper.source.get_token());
  CHECK(part.report.rounds.size() < 6);
  const auto rest = times.run("parts");
  CHECK(rest.report.head == whole.report.head);
  CHECK(times_of(rest.report) == times_of(whole.report));
}

TEST_CASE("simulated time: all clients together train the tokens that they are said to") {
  const SimulatedTimes times;
  times.write("[[devices]]\nname = \"server\"\ntokens_per_second = 1\n");
  for (const std::string batch : {"1", "7", "1000"}) {
    const auto outcome =
        times.run("batch-" + batch, {"training.batch_size=" + batch}, {}, {}, "8760h");
    for (const auto& round : outcome.report.rounds) {
      CHECK(round.simulated->busy_seconds == doctest::Approx(static_cast<double>(round.tokens)));
    }
  }
}

TEST_CASE("simulated time: a run keeps the devices that it was made with") {
  const SimulatedTimes times;
  const auto outcome = times.run("run");
  const auto kept = core::load_devices(times.path("run") / "devices.toml");
  REQUIRE(kept.size() == 2);
  CHECK(kept[1].failures == 0.3);
  const auto config = core::load_config(times.path("run") / "config.toml", {});
  CHECK(config.simulation.profiles == times.path("run") / "devices.toml");
}

TEST_CASE("simulated time: a device that cannot hold its client's training is named") {
  const SimulatedTimes times;
  times.write(
      "[[devices]]\nname = \"server\"\ntokens_per_second = 1\n"
      "[[devices]]\nname = \"watch\"\ntokens_per_second = 1\nmemory = \"1MB\"\n");
  CHECK_THROWS_WITH_AS(times.run("run"), doctest::Contains("memory of watch"), core::ConfigError);
  times.write("[[devices]]\nname = \"phone\"\ntokens_per_second = 1\n");
  CHECK_THROWS_WITH_AS(times.run("run"), doctest::Contains("clients.0.device"), core::ConfigError);
}

TEST_CASE("simulated time: with over-selection the quickest make a round") {
  const SimulatedTimes times;
  times.write(R"([[devices]]
name = "server"
tokens_per_second = 1000
share = 0
[[devices]]
name = "phone"
tokens_per_second = 40
)");
  const auto outcome = times.run("run", {"federation.cohort=2", "federation.over_selection=1.5"});
  for (const auto& round : outcome.report.rounds) {
    CHECK(round.asked == 3);
    CHECK(round.accepted == 2);
    CHECK(round.simulated->surplus == 1);
    CHECK(round.simulated->seconds < 30.0);
  }
  // Without simulated time nobody could say who is first.
  const test::TinyLanguageModel letters;
  const auto plain = letters.run("plain", {"federation.cohort=2"});
  const auto more = letters.run("more", {"federation.cohort=2", "federation.over_selection=1.5"});
  CHECK(more.report.rounds[0].asked == 2);
  CHECK(more.report.after->at("loss") == plain.report.after->at("loss"));
}

TEST_CASE("simulated time: where nobody answers in time, the round is abandoned and says so") {
  const SimulatedTimes times;
  times.write("[[devices]]\nname = \"server\"\ntokens_per_second = 0.001\n");
  const auto outcome = times.run("run");
  REQUIRE(outcome.failure);
  CHECK(outcome.failure->find("timeout") != std::string::npos);
  CHECK(outcome.report.rounds.empty());
}
