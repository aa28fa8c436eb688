#include "core/toml_text.h"

#include <algorithm>

#include "core/error.h"
#include "core/toml_depth.h"

namespace drystone::core {

toml::table parse_toml(std::string_view text, const std::string& file) {
  check_toml_depth(text, file);
  try {
    return toml::parse(text, file);
  } catch (const toml::parse_error& error) {
    std::string reason(error.description());
    std::ranges::replace(reason, '\n', ' ');  // it may quote the end of the line
    throw ConfigError(file + ":" + std::to_string(error.source().begin.line) +
                      ": this is not TOML: " + reason + "; correct this line");
  }
}

}  // namespace drystone::core
