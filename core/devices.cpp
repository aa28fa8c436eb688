#include "core/devices.h"

#include <optional>
#include <set>

#include "core/config_reader.h"

namespace drystone::core {

namespace {

using detail::Document;
using detail::TableReader;

constexpr RealRange kFromNothing = {.low = 0.0, .high = 1e12};
constexpr RealRange kMoreThanNothing = {.low = 0.0, .high = 1e12, .open_low = true};

/// "HH:MM" from 00:00 to 24:00.
std::optional<std::chrono::minutes> parse_time(const std::string& text) {
  const auto digit = [&](std::size_t at) { return text[at] >= '0' && text[at] <= '9'; };
  if (text.size() != 5 || text[2] != ':') return std::nullopt;
  if (!digit(0) || !digit(1) || !digit(3) || !digit(4)) return std::nullopt;
  const int hours = std::stoi(text.substr(0, 2));
  const int minutes = std::stoi(text.substr(3));
  if (hours > 24 || minutes > 59 || (hours == 24 && minutes > 0)) return std::nullopt;
  return std::chrono::hours(hours) + std::chrono::minutes(minutes);
}

DayWindow parse_window(const TableReader& entry, const std::string& text) {
  const std::size_t dash = text.find('-');
  if (dash != std::string::npos) {
    const auto begin = parse_time(text.substr(0, dash));
    const auto end = parse_time(text.substr(dash + 1));
    if (begin && end && *begin != *end) return {.begin = *begin, .end = *end};
  }
  entry.fail("available", "holds \"" + text +
                              "\"; write parts of a day as \"22:00-06:00\": two digits each, no "
                              "blanks, an end apart from the beginning");
}

Device read_device(TableReader& entry) {
  Device device;
  entry.read("name", device.name);
  if (device.name.empty()) entry.fail("name", "must be given: [[clients]] name a device by it");
  entry.read("share", device.share, kFromNothing);
  if (entry.find("tokens_per_second") == nullptr) {
    entry.fail("tokens_per_second", "must be given: what " + device.name +
                                        " trains of this model in a second; see "
                                        "metrics.jsonl of a run on it");
  }
  device.tokens_per_second = 100.0;  // what a refusal gives as an example
  entry.read("tokens_per_second", device.tokens_per_second, kMoreThanNothing);
  entry.read_size("memory", device.memory);
  entry.read_size("up", device.up);
  entry.read_size("down", device.down);
  if (entry.find("latency") != nullptr) {
    device.latency = std::chrono::milliseconds(50);  // likewise
    entry.read("latency", device.latency);
  }
  entry.read("watts", device.watts, kFromNothing);
  entry.read("failures", device.failures, {.low = 0.0, .high = 1.0, .open_high = true});
  std::vector<std::string> windows;
  entry.read("available", windows);
  for (const std::string& window : windows) {
    device.available.push_back(parse_window(entry, window));
  }
  return device;
}

}  // namespace

std::vector<Device> load_devices(const std::filesystem::path& file) {
  Document document(file, {});
  TableReader top(document);
  std::vector<Device> devices;
  std::set<std::string> names;
  for (TableReader& entry : top.tables("devices")) {
    devices.push_back(read_device(entry));
    if (!names.insert(devices.back().name).second) {
      entry.fail("name", "\"" + devices.back().name + "\" is there twice; give each its own");
    }
  }
  if (devices.empty()) top.fail("devices", "there is none; write a [[devices]] for each kind");
  document.refuse_unknown_keys();
  return devices;
}

}  // namespace drystone::core
