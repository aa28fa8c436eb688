#include "core/toml_text.h"

#include <algorithm>
#include <limits>
#include <sstream>
#include <string>

#include "core/error.h"
#include "core/toml_depth.h"

namespace drystone::core {

namespace {

/// "KEY" of the line "KEY = …"; empty for another line.
std::string key_in(std::string_view text, std::size_t line) {
  for (std::size_t i = 1; i < line; ++i) text.remove_prefix(text.find('\n') + 1);
  text = text.substr(0, text.find('\n'));
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos) return "";
  std::istringstream words{std::string(text.substr(0, equals))};
  std::string key;
  words >> key;
  return key;
}

}  // namespace

toml::table parse_toml(std::string_view text, const std::string& file) {
  check_toml_depth(text, file);
  try {
    return toml::parse(text, file);
  } catch (const toml::parse_error& error) {
    std::string reason(error.description());
    std::ranges::replace(reason, '\n', ' ');  // it may quote the end of the line
    const std::size_t line = error.source().begin.line;
    const std::string key = key_in(text, line);
    if (reason.find("not representable in 64 bits") != std::string::npos && !key.empty()) {
      throw ConfigError(file + ":" + std::to_string(line) + ": " + key + ": must be at most " +
                        std::to_string(std::numeric_limits<std::int64_t>::max()) +
                        "; write a smaller number");
    }
    throw ConfigError(file + ":" + std::to_string(line) + ": this is not TOML: " + reason +
                      "; correct this line");
  }
}

}  // namespace drystone::core
