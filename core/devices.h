#pragma once
// Kinds of machines that virtual clients stand for: simulation.profiles.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace drystone::core {

/// A part of each day, since midnight; begins before it ends, or goes over midnight.
struct DayWindow {
  std::chrono::minutes begin{};
  std::chrono::minutes end{};

  bool operator==(const DayWindow&) const = default;
};

struct Device {
  std::string name;
  double share = 1.0;              ///< of the clients that name no device, relative to the others'
  double tokens_per_second = 0.0;  ///< in training, of the run's model
  std::int64_t memory = 0;         ///< bytes for a training; 0: no bound
  std::int64_t up = 0;             ///< bytes a second; 0: takes no time
  std::int64_t down = 0;           ///< likewise
  std::chrono::milliseconds latency{};  ///< of each way
  double watts = 0.0;                   ///< while it trains
  double failures = 0.0;                ///< part of its tasks that it never answers
  std::vector<DayWindow> available;     ///< when it begins tasks; empty: always

  bool operator==(const Device&) const = default;
};

/// [[devices]] of a TOML file; docs/virtual-time.md names the keys.
/// @throws ConfigError  unreadable, none, a name twice, a value out of range, an unknown key
std::vector<Device> load_devices(const std::filesystem::path& file);

}  // namespace drystone::core
