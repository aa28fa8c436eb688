#include "core/metrics.h"

#include <cmath>
#include <system_error>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file_errors.h"
#include "core/text.h"

namespace drystone::core {
namespace {

using Json = nlohmann::ordered_json;

struct JsonValue {
  Json operator()(bool value) const { return value; }
  Json operator()(std::int64_t value) const { return value; }
  Json operator()(double value) const { return std::isfinite(value) ? Json(value) : Json(nullptr); }
  Json operator()(std::string_view value) const { return std::string(value); }
};

// Length of `path` up to and with its last line break.
std::uintmax_t whole_lines(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  std::streamoff end = file ? static_cast<std::streamoff>(file.tellg()) : 0;
  for (; end > 0; --end) {
    file.seekg(end - 1);
    if (file.get() == '\n') break;
  }
  return static_cast<std::uintmax_t>(end);
}

void cut_half_line(const std::filesystem::path& path) {
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return;  // not there yet
  const std::uintmax_t whole = whole_lines(path);
  if (whole < size) std::filesystem::resize_file(path, whole, error);
  if (error) throw file_error(path, "cannot be repaired", error);
}

}  // namespace

std::string to_json_line(std::string_view event, const std::vector<MetricField>& fields) {
  Json json;
  json["event"] = std::string(event);
  for (const auto& [key, value] : fields) {  // the first of a name stays: no later one forges it
    if (!json.contains(key)) json[std::string(key)] = std::visit(JsonValue{}, value);
  }
  return visible(json.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace));
}

MetricsWriter::MetricsWriter(const std::filesystem::path& path) : path_(path) {
  std::error_code ignored;  // opening reports the trouble
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), ignored);
  cut_half_line(path);
  file_.open(path, std::ios::binary | std::ios::app);
  if (!file_) {
    throw IoError(path.string() + ": cannot be opened; check the folder and its permissions");
  }
}

void MetricsWriter::write(std::string_view event, const std::vector<MetricField>& fields) {
  const std::string line = to_json_line(event, fields) + "\n";
  const std::scoped_lock lock(mutex_);
  file_ << line << std::flush;
  if (!file_) {
    file_.clear();
    throw IoError(path_.string() + ": cannot be written; make room on the disk");
  }
}

std::uint64_t peak_rss_bytes() {
  // Not getrusage: its figure includes what the parent held before exec.
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) * 1024;  // in kiB
  }
  return 0;
}

}  // namespace drystone::core
