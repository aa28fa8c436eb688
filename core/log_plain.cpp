#include <array>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <mutex>

#include "core/error.h"
#include "core/log_backend.h"
#include "core/terminal.h"

namespace drystone::core::detail {
namespace {

struct Backend {
  std::mutex mutex;
  std::ofstream file;
};

Backend& backend() {
  static Backend instance;
  return instance;
}

std::string time_text() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 40> buffer{};
  const std::size_t length = std::strftime(buffer.data(), buffer.size(), "%FT%TZ", &parts);
  return {buffer.data(), length};
}

std::string_view padded_name(LogLevel level) {
  switch (level) {
    case LogLevel::Debug: return "debug  ";
    case LogLevel::Info: return "info   ";
    case LogLevel::Warning: return "warning";
    case LogLevel::Error: return "error  ";
    case LogLevel::Off: break;
  }
  return "off    ";
}

std::string stamped(LogLevel level, std::string_view line) {
  std::string text = time_text();
  text += ' ';
  text += padded_name(level);
  text += ' ';
  text += line;
  return text;
}

}  // namespace

void open_log_backend(const std::string& path) {
  std::ofstream file;
  if (!path.empty()) {
    file.open(path, std::ios::app);
    if (!file) {
      throw IoError(path + ": the log file cannot be opened; check the folder and its permissions");
    }
  }
  const std::scoped_lock lock(backend().mutex);
  backend().file = std::move(file);
}

void write_log_line(LogLevel level, std::string_view line) {
  Terminal::standard_error().print(stamped(level, line));
  write_log_file(level, line);
}

void write_log_file(LogLevel level, std::string_view line) {
  const std::scoped_lock lock(backend().mutex);
  if (backend().file.is_open()) backend().file << stamped(level, line) << std::endl;
}

}  // namespace drystone::core::detail
