#pragma once
// metrics.jsonl: one JSON object a line, written as it happens and never rewritten.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace drystone::core {

/// One `"key": value` of an event.
struct MetricField {
  std::string_view key;
  std::variant<bool, std::int64_t, double, std::string_view> value;
};

/// The event as JSON, `{"event": NAME, ...}`, fields in the given order, the first of each name.
/// Numbers that are not finite become null, bytes that are not UTF-8 the replacement character,
/// characters that are not visible (core/text.h) escapes.
std::string to_json_line(std::string_view event, const std::vector<MetricField>& fields);

/// Appends events to a file. From any thread.
class MetricsWriter {
 public:
  /// Missing folders are made. A half line that a crash left at the end is cut off.
  /// @throws IoError  the file cannot be opened or repaired
  explicit MetricsWriter(const std::filesystem::path& path);

  /// Writes one line and flushes it.
  /// @throws IoError  it could not be written, e.g. the disk is full
  void write(std::string_view event, const std::vector<MetricField>& fields);

 private:
  std::filesystem::path path_;
  std::mutex mutex_;
  std::ofstream file_;
};

/// The most memory that this program ever had resident; 0 where /proc does not say.
std::uint64_t peak_rss_bytes();

}  // namespace drystone::core
