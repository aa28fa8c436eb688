#include "core/config_paths.h"

#include <algorithm>

#include "core/written_text.h"

namespace drystone::core {

namespace fs = std::filesystem;

namespace {

bool is_below(const fs::path& path, const fs::path& folder) {
  return std::ranges::mismatch(folder, path).in1 == folder.end();
}

/// Of --set nothing but the resolved path is left: one outside of the current folder says by itself
/// where it was looked for.
std::string where_relative_paths_begin(const Config& config, const std::string& key,
                                       const fs::path& path) {
  const auto origin = config.origins.find(key);
  std::error_code error;
  if (origin == config.origins.end()) return "";
  if (origin->second == "--set") {
    if (!is_below(path, fs::current_path(error)) || error) return "";
    return " (a relative path of --set begins in the current folder)";
  }
  if (!fs::exists(config.source, error)) return "";
  const std::string written = written_text(config.source, key);
  if (written.empty() || fs::path(written).is_absolute()) return "";
  return " (a relative path begins in the configuration's folder)";
}

}  // namespace

ConfigError path_error(const Config& config, const std::string& key, const fs::path& path,
                       const std::string& problem, const std::string& remedy) {
  return config_error(config, key,
                      path.string() + ": " + problem + "; " + remedy +
                          where_relative_paths_begin(config, key, path));
}

}  // namespace drystone::core
