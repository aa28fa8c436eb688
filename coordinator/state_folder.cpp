#include "coordinator/state_folder.h"

#include <charconv>
#include <string_view>
#include <system_error>

#include "core/error.h"

namespace drystone::coordinator {

namespace fs = std::filesystem;

namespace {

constexpr const char* kBeginAnew =
    "; or begin anew with --start-over, which deletes what is there, or in another folder";

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

std::optional<std::uint64_t> version_of_sum(const std::string& name) {
  constexpr std::string_view kPrefix = "sum-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::uint64_t version = 0;
  const char* const begin = name.data() + kPrefix.size();
  const auto [stop, error] = std::from_chars(begin, name.data() + name.size(), version);
  if (error != std::errc() || stop == begin || *stop != '.') return std::nullopt;
  return version;
}

void refuse_rolled_back(const fs::path& state, std::uint64_t newest) {
  for (const auto& entry : fs::directory_iterator(state)) {
    const std::string name = entry.path().filename().string();
    const auto version = version_of_sum(name);
    if (!version || *version <= newest || !name.ends_with(".sha256")) continue;
    throw core::ConfigError(
        state.string() + ": state.sqlite ends with version " + std::to_string(newest) + ", but " +
        name + " is of a later one: its -wal was lost, or it is an older copy" + kLostStateRemedy);
  }
}

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
  return "; to go on, restore that configuration: repeat its --set's" + it + kBeginAnew;
}

std::string other_layout_remedy(const fs::path& run) {
  const fs::path copy = run / "layout.json";
  const std::string source =
      fs::exists(copy) ? copy.string() + " is a copy" : "`drystone provision --update` writes it";
  return "; to go on, restore that file (" + source + ")" + kBeginAnew;
}

}  // namespace drystone::coordinator
