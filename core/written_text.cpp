#include "core/written_text.h"

#include "core/config_reader.h"

namespace drystone::core {

std::string written_text(const std::filesystem::path& file, const std::string& key) {
  return detail::Document(file, {}).root().at_path(key).value_or(std::string());
}

}  // namespace drystone::core
