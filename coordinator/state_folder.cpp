#include "coordinator/state_folder.h"

#include "core/error.h"

namespace drystone::coordinator {

namespace fs = std::filesystem;

namespace {

std::size_t num_payloads(const fs::path& state) {
  std::error_code ignored;  // a folder that is not there holds none
  std::size_t count = 0;
  for (const auto& entry : fs::directory_iterator(state / "blobs", ignored)) {
    if (entry.is_regular_file(ignored)) ++count;
  }
  for (const auto& entry : fs::directory_iterator(state, ignored)) {
    if (is_carry(entry.path())) ++count;
  }
  return count;
}

}  // namespace

bool is_carry(const fs::path& file) { return file.filename().string().starts_with("carry-"); }

void refuse_earlier_life(const fs::path& state) {
  const std::size_t count = num_payloads(state);
  if (count == 0) return;
  throw core::ConfigError(state.string() + ": holds " + std::to_string(count) +
                          " payloads of an earlier life, but state.sqlite is missing or empty" +
                          kLostStateRemedy);
}

std::string other_configuration_remedy(const fs::path& run) {
  const fs::path file = run / "config.toml";
  const std::string it = fs::exists(file) ? ", or give " + file.string() + " instead" : "";
  return "; to go on, restore that configuration: repeat its --set's" + it +
         "; or begin anew with --start-over, which deletes what is there, or in another folder";
}

}  // namespace drystone::coordinator
