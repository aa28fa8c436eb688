#include "core/log.h"

#include <array>
#include <atomic>
#include <cstdio>
#include <mutex>
#include <optional>
#include <utility>

#include "core/check.h"
#include "core/held_warnings.h"
#include "core/log_backend.h"
#include "core/log_rate.h"
#include "core/text.h"

namespace drystone::core {
namespace {

std::atomic<LogLevel> threshold = LogLevel::Warning;

struct ValueText {
  std::string operator()(std::int64_t value) const { return std::to_string(value); }
  std::string operator()(double value) const {
    std::array<char, 32> buffer{};
    const int length = std::snprintf(buffer.data(), buffer.size(), "%.6g", value);
    return {buffer.data(), static_cast<std::size_t>(length)};
  }
  // A value that could be mistaken for the next field, or break the line, is quoted.
  std::string operator()(std::string_view value) const {
    std::string text = quote(value);
    const bool plain = !value.empty() && text.size() == value.size() + 2 &&
                       value.find_first_of(" =") == std::string_view::npos;
    return plain ? std::string(value) : text;
  }
};

std::string text_of(std::string_view message, std::initializer_list<Field> fields) {
  std::string line(message);
  for (const auto& [key, value] : fields) {
    line += ' ';
    line += key;
    line += '=';
    line += std::visit(ValueText{}, value);
  }
  return line;
}

std::optional<std::int64_t> admit(std::string_view message) {
  static std::mutex mutex;
  static LogRate rate;
  const std::scoped_lock lock(mutex);
  return rate.admit(message, SystemClock().now());
}

/// Of HeldWarnings.
struct Held {
  std::mutex mutex;
  bool is_active = false;
  std::vector<std::string> lines;
};

Held& held() {
  static Held instance;
  return instance;
}

bool hold(LogLevel level, const std::string& line) {
  if (level < LogLevel::Warning) return false;
  const std::scoped_lock lock(held().mutex);
  if (held().is_active) held().lines.push_back(line);
  return held().is_active;
}

}  // namespace

HeldWarnings::HeldWarnings() {
  const std::scoped_lock lock(held().mutex);
  require(!held().is_active, "HeldWarnings: there is one already");
  held().is_active = true;
}

HeldWarnings::~HeldWarnings() {
  const std::scoped_lock lock(held().mutex);
  held().is_active = false;
  held().lines.clear();
}

std::vector<std::string> HeldWarnings::take() {
  const std::scoped_lock lock(held().mutex);
  return std::exchange(held().lines, {});
}

void init_log(LogLevel level, const std::string& path) {
  detail::open_log_backend(path);
  threshold = level;
}

void log(LogLevel level, std::string_view message, std::initializer_list<Field> fields) {
  if (level == LogLevel::Off || level < threshold.load(std::memory_order_relaxed)) return;
  const auto dropped = admit(message);
  if (!dropped) return;
  std::string line = text_of(message, fields);
  if (*dropped > 0) line += " not_shown=" + std::to_string(*dropped);
  line = visible(line);
  if (!hold(level, line)) detail::write_log_line(level, line);
}

void log_to_file(LogLevel level, std::string_view message, std::initializer_list<Field> fields) {
  detail::write_log_file(level, visible(text_of(message, fields)));
}

}  // namespace drystone::core
