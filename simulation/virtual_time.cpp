#include "simulation/virtual_time.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/error.h"
#include "core/seed.h"

namespace drystone::simulation {

namespace {

constexpr double kDay = 24.0 * 3600.0;

double seconds(std::chrono::duration<double> duration) { return duration.count(); }

/// From `now` until the device begins tasks.
double until_available(const core::Device& device, double now) {
  if (device.available.empty()) return 0.0;
  const double of_day = std::fmod(now, kDay);
  double wait = kDay;
  for (const core::DayWindow& window : device.available) {
    const double begin = seconds(window.begin);
    const double end = seconds(window.end);
    const double length = end > begin ? end - begin : end - begin + kDay;
    const double since = std::fmod(of_day - begin + kDay, kDay);
    wait = std::min(wait, since < length ? 0.0 : kDay - since);
  }
  return wait;
}

double transfer(std::uint64_t bytes, std::int64_t bytes_a_second) {
  return bytes_a_second == 0 ? 0.0
                             : static_cast<double>(bytes) / static_cast<double>(bytes_a_second);
}

}  // namespace

void VirtualTime::open(const wire::RoundPlan& plan) {
  round_ = plan.round;
  attempt_ = plan.attempt;
  last_arrival_ = 0.0;
  simulated_ = {};
}

Fate VirtualTime::ask(const std::string& client, const core::Device& device, const Work& work) {
  const std::string purpose = "failure/" + std::to_string(attempt_);
  core::SplitMix64 random({seed_, round_, client, purpose});
  if (random.uniform() < device.failures) {
    ++simulated_.dropped;
    return {.kind = Fate::Kind::Dropped};
  }
  const double busy = work.tokens / device.tokens_per_second;
  const double arrival = until_available(device, now()) + transfer(work.bytes_down, device.down) +
                         busy + transfer(work.bytes_up, device.up) +
                         2.0 * seconds(device.latency);
  simulated_.busy_seconds += busy;
  simulated_.joules += busy * device.watts;
  if (arrival > deadline_) {
    ++simulated_.late;
    return {.kind = Fate::Kind::Late, .seconds = arrival};
  }
  last_arrival_ = std::max(last_arrival_, arrival);
  return {.seconds = arrival};
}

coordinator::SimulatedTime VirtualTime::taken() const {
  const bool all_arrived = simulated_.late + simulated_.dropped == 0;
  coordinator::SimulatedTime taken = simulated_;
  taken.clock = now() + (all_arrived ? last_arrival_ : deadline_);
  taken.seconds = taken.clock - ended_;
  return taken;
}

void VirtualTime::close(const coordinator::RoundReport& round) {
  if (round.simulated) ended_ = round.simulated->clock;
}

const core::Device& draw_device(const std::vector<core::Device>& devices, std::uint64_t seed,
                                const std::string& client) {
  double shares = 0.0;
  for (const core::Device& device : devices) shares += device.share;
  if (shares <= 0.0) {
    throw core::ConfigError("simulation.profiles: no device has a share, and " + client +
                            " names none; give one a share above 0, or the client a device");
  }
  core::SplitMix64 random({seed, 0, client, "device"});
  double left = random.uniform() * shares;
  const core::Device* drawn = nullptr;
  for (const core::Device& device : devices) {
    if (device.share == 0.0) continue;
    drawn = &device;
    if (left < device.share) break;
    left -= device.share;
  }
  return *drawn;
}

}  // namespace drystone::simulation
