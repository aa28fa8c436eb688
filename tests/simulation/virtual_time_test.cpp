#include "simulation/virtual_time.h"

#include <cmath>
#include <fstream>
#include <map>
#include <set>

#include <doctest/doctest.h>

#include "core/error.h"
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
  time.open(plan_of(1));
  const core::Device device{
      .name = "d", .tokens_per_second = 50.0, .up = 10, .down = 40, .latency = 500ms, .watts = 3.0};
  const Fate fate = time.ask("a", device, {.tokens = 200.0, .bytes_down = 80, .bytes_up = 30});
  CHECK(fate.kind == Fate::Kind::Arrives);
  CHECK(fate.seconds == doctest::Approx(2.0 + 4.0 + 3.0 + 1.0));
  time.ask("b", {.name = "e", .tokens_per_second = 1.0}, {.tokens = 7.0});
  const auto taken = time.taken();
  CHECK(taken.seconds == doctest::Approx(10.0));
  CHECK(taken.clock == doctest::Approx(10.0));
  CHECK(taken.busy_seconds == doctest::Approx(4.0 + 7.0));
  CHECK(taken.joules == doctest::Approx(12.0));
  CHECK(taken.late + taken.dropped == 0);
}

TEST_CASE("virtual time: who is late costs the deadline, and so does each abandoned attempt") {
  VirtualTime time(1, 60.0);
  const core::Device device{.name = "d", .tokens_per_second = 1.0};
  time.open(plan_of(1));
  CHECK(time.ask("quick", device, {.tokens = 10.0}).kind == Fate::Kind::Arrives);
  CHECK(time.ask("late", device, {.tokens = 61.0}).kind == Fate::Kind::Late);
  CHECK(time.taken().late == 1);
  CHECK(time.taken().seconds == doctest::Approx(60.0));
  time.open(plan_of(1, 2));
  time.ask("quick", device, {.tokens = 10.0});
  CHECK(time.taken().seconds == doctest::Approx(2 * 60.0 + 10.0));
  CHECK(time.taken().busy_seconds == doctest::Approx(10.0));
  time.close(row_of(time));
  time.open(plan_of(2));
  time.ask("quick", device, {.tokens = 5.0});
  CHECK(time.taken().seconds == doctest::Approx(5.0));
  CHECK(time.taken().clock == doctest::Approx(135.0));
}

TEST_CASE("virtual time: a client begins when its device is available") {
  core::Device device{.name = "d", .tokens_per_second = 1.0};
  device.available = {{22h, 6h}, {12h, 13h + 30min}};
  for (int minute = 0; minute < 24 * 60; minute += 7) {
    VirtualTime time(1, 1e9);
    coordinator::RoundReport before;
    before.simulated = coordinator::SimulatedTime{.clock = 3 * 86400.0 + 60.0 * minute};
    time.close(before);
    time.open(plan_of(2));
    CHECK(time.ask("a", device, {}).seconds ==
          doctest::Approx(60.0 * minutes_until_available(device, minute)));
  }
  device.available = {{0h, 24h}};
  VirtualTime time(1, 1e9);
  time.open(plan_of(1));
  CHECK(time.ask("a", device, {}).seconds == 0.0);
}

TEST_CASE("virtual time: failures are as frequent as said, and drawn anew in each attempt") {
  const core::Device device{.name = "d", .tokens_per_second = 1.0, .failures = 0.2};
  std::set<std::string> dropped[2];
  for (std::uint64_t attempt = 0; attempt < 2; ++attempt) {
    VirtualTime time(9, 60.0);
    time.open(plan_of(4, attempt));
    for (int i = 0; i < 4000; ++i) {
      const std::string client = "client-" + std::to_string(i);
      if (time.ask(client, device, {}).kind == Fate::Kind::Dropped) {
        dropped[attempt].insert(client);
      }
    }
    CHECK(time.taken().dropped == dropped[attempt].size());
    CHECK(std::abs(static_cast<double>(dropped[attempt].size()) - 800.0) < 5.0 * std::sqrt(640.0));
  }
  CHECK(dropped[0] != dropped[1]);
}

TEST_CASE("virtual time: devices are drawn by their shares") {
  const std::vector<core::Device> devices = {{.name = "a", .share = 1.0},
                                             {.name = "none", .share = 0.0},
                                             {.name = "b", .share = 3.0}};
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

/// Asks for a stop as soon as a version is published.
class StopAfterFirstVersion final : public coordinator::Observer {
 public:
  void on_published(const coordinator::RoundReport&) override { source.request_stop(); }
  std::stop_source source;
};

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
  void write(const std::string& devices) const {
    std::ofstream(letters_.path("devices.toml")) << devices;
  }
  simulation::SimulationOutcome run(const std::string& out, std::vector<std::string> more = {},
                                    std::vector<coordinator::Observer*> observers = {},
                                    std::stop_token stop = {}) const {
    more.insert(more.end(),
                {"simulation.profiles=" + letters_.path("devices.toml").string(),
                 "federation.rounds=6", "federation.quorum=1", "federation.deadline=30s"});
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
  StopAfterFirstVersion stopper;
  const auto part = times.run("parts", {}, {&stopper}, stopper.source.get_token());
  CHECK(part.report.rounds.size() < 6);
  const auto rest = times.run("parts");
  CHECK(rest.report.head == whole.report.head);
  CHECK(times_of(rest.report) == times_of(whole.report));
}

TEST_CASE("simulated time: a device that cannot hold its client's training is named") {
  const SimulatedTimes times;
  times.write(
      "[[devices]]\nname = \"server\"\ntokens_per_second = 1\n"
      "[[devices]]\nname = \"watch\"\ntokens_per_second = 1\nmemory = \"1MB\"\n");
  CHECK_THROWS_WITH_AS(times.run("run"), doctest::Contains("does not fit on device watch"),
                       core::ConfigError);
  times.write("[[devices]]\nname = \"phone\"\ntokens_per_second = 1\n");
  CHECK_THROWS_WITH_AS(times.run("run"), doctest::Contains("clients.0.device"), core::ConfigError);
}

TEST_CASE("simulated time: where nobody answers in time, the round is abandoned and says so") {
  const SimulatedTimes times;
  times.write("[[devices]]\nname = \"server\"\ntokens_per_second = 0.001\n");
  const auto outcome = times.run("run");
  REQUIRE(outcome.failure);
  CHECK(outcome.failure->find("timeout") != std::string::npos);
  CHECK(outcome.report.rounds.empty());
}
