#include <filesystem>
#include <memory>
#include <mutex>
#include <vector>

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/rotating_file_sink.h>

#include "core/error.h"
#include "core/log_backend.h"
#include "core/log_file.h"
#include "core/terminal.h"

namespace drystone::core::detail {
namespace {

/// Prints through the shared terminal, so that lines and progress bars do not overwrite each other.
class TerminalSink final : public spdlog::sinks::base_sink<std::mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t buffer;
    formatter_->format(message, buffer);
    Terminal::standard_error().print({buffer.data(), buffer.size()});
  }
  void flush_() override {}
};

struct Loggers {
  std::shared_ptr<spdlog::logger> all;   ///< terminal and file
  std::shared_ptr<spdlog::logger> file;  ///< nullptr: there is no file
};

std::shared_ptr<spdlog::logger> make_logger(const std::vector<spdlog::sink_ptr>& sinks) {
  auto logger = std::make_shared<spdlog::logger>("drystone", sinks.begin(), sinks.end());
  logger->set_level(spdlog::level::trace);
  logger->flush_on(spdlog::level::trace);  // a killed process leaves its last line behind
  return logger;
}

Loggers make_loggers(const std::string& path) {
  const auto formatted = [](spdlog::sink_ptr sink, const char* end_of_line) {
    sink->set_formatter(std::make_unique<spdlog::pattern_formatter>(
        "%Y-%m-%dT%H:%M:%S.%eZ %-7l %v", spdlog::pattern_time_type::utc, end_of_line));
    return sink;
  };
  std::vector<spdlog::sink_ptr> sinks = {formatted(std::make_shared<TerminalSink>(), "")};
  if (path.empty()) return {.all = make_logger(sinks), .file = nullptr};
  if (std::filesystem::exists(path) && !std::filesystem::is_regular_file(path)) {
    throw IoError(path + ": is no regular file; remove it");  // a FIFO would wait for a reader
  }
  const spdlog::sink_ptr file = formatted(
      std::make_shared<spdlog::sinks::rotating_file_sink_mt>(path, kLogFileBytes, kLogFiles - 1),
      "\n");
  sinks.push_back(file);
  return {.all = make_logger(sinks), .file = make_logger({file})};
}

struct Backend {
  std::mutex mutex;
  Loggers loggers = make_loggers({});
};

Backend& backend() {
  static Backend instance;
  return instance;
}

Loggers loggers() {
  const std::scoped_lock lock(backend().mutex);
  return backend().loggers;
}

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::Debug: return spdlog::level::debug;
    case LogLevel::Info: return spdlog::level::info;
    case LogLevel::Warning: return spdlog::level::warn;
    case LogLevel::Error: return spdlog::level::err;
    case LogLevel::Off: break;
  }
  return spdlog::level::off;
}

}  // namespace

void open_log_backend(const std::string& path) {
  try {
    Loggers opened = make_loggers(path);
    const std::scoped_lock lock(backend().mutex);
    backend().loggers = std::move(opened);
  } catch (const spdlog::spdlog_ex&) {
    throw IoError(path + ": the log file cannot be opened; check the folder and its permissions");
  }
}

void write_log_line(LogLevel level, std::string_view line) {
  loggers().all->log(level_of(level), spdlog::string_view_t(line.data(), line.size()));
}

void write_log_file(LogLevel level, std::string_view line) {
  const auto file = loggers().file;
  if (file) file->log(level_of(level), spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace drystone::core::detail
