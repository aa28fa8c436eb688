#include "simulation/virtual_time.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

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

std::vector<Fate> VirtualTime::open(const wire::RoundPlan& plan, const std::vector<Task>& tasks,
                                    std::size_t wanted) {
  planned_ = ended_ + static_cast<double>(plan.attempt) * deadline_;
  taken_ = {};
  std::vector<Fate> fates;
  std::vector<std::pair<double, std::size_t>> arrivals;
  for (const Task& task : tasks) {
    fates.push_back(ask(plan, task));
    if (fates.back().kind == Fate::Kind::Arrives) {
      arrivals.emplace_back(fates.back().seconds, fates.size() - 1);
    }
  }
  std::ranges::sort(arrivals);
  for (std::size_t i = wanted; i < arrivals.size(); ++i) {
    fates[arrivals[i].second].kind = Fate::Kind::Surplus;
    ++taken_.surplus;
  }
  const bool is_made = arrivals.size() >= wanted;
  double end = deadline_;
  if (is_made) end = wanted == 0 ? 0.0 : arrivals[wanted - 1].first;
  taken_.clock = planned_ + end;
  taken_.seconds = taken_.clock - ended_;
  return fates;
}

Fate VirtualTime::ask(const wire::RoundPlan& plan, const Task& task) {
  const core::Device& device = task.device;
  const std::string purpose = "failure/" + std::to_string(plan.attempt);
  core::SplitMix64 random({seed_, plan.round, task.client, purpose});
  if (random.uniform() < device.failures) {
    ++taken_.dropped;
    return {.kind = Fate::Kind::Dropped};
  }
  const double busy = task.work.tokens / device.tokens_per_second;
  const double arrival = until_available(device, planned_) +
                         transfer(task.work.bytes_down, device.down) + busy +
                         transfer(task.work.bytes_up, device.up) + 2.0 * seconds(device.latency);
  taken_.busy_seconds += busy;
  taken_.joules += busy * device.watts;
  const bool is_late = arrival > deadline_;
  if (is_late) ++taken_.late;
  return {.kind = is_late ? Fate::Kind::Late : Fate::Kind::Arrives, .seconds = arrival};
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
  std::size_t drawn = 0;
  for (std::size_t i = 0; i < devices.size(); ++i) {
    if (devices[i].share == 0.0) continue;
    drawn = i;
    if (left < devices[i].share) break;
    left -= devices[i].share;
  }
  return devices[drawn];
}

}  // namespace drystone::simulation
