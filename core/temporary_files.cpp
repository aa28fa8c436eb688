#include "core/temporary_files.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <sys/random.h>

#include "core/bytes.h"
#include "core/file_errors.h"

namespace drystone::core {

namespace {

constexpr std::string_view kTemporary = ".tmp-";
constexpr std::size_t kNumberBytes = 8;
constexpr const char* kDigits = "0123456789";

bool consists_of(std::string_view text, std::string_view characters) {
  return !text.empty() && text.find_first_not_of(characters) == std::string_view::npos;
}

/// As temporary_beside names a file, or as once: PROCESS-COUNT.
bool is_temporary(const std::filesystem::path& file) {
  const std::string suffix = file.extension().string();
  if (!suffix.starts_with(kTemporary)) return false;
  const std::string_view number = std::string_view(suffix).substr(kTemporary.size());
  if (number.size() == 2 * kNumberBytes && consists_of(number, "0123456789abcdef")) return true;
  const std::size_t dash = number.find('-');
  return dash != std::string_view::npos && consists_of(number.substr(0, dash), kDigits) &&
         consists_of(number.substr(dash + 1), kDigits);
}

}  // namespace

std::filesystem::path temporary_beside(const std::filesystem::path& path) {
  std::array<std::uint8_t, kNumberBytes> number{};
  if (::getrandom(number.data(), number.size(), 0) != static_cast<ssize_t>(number.size())) {
    throw_errno(path, "no random name to be had");
  }
  return path.string() + std::string(kTemporary) + to_hex(number);
}

void sweep_temporaries(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  if (!fs::is_directory(folder)) return;
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (is_temporary(entry.path()) && entry.is_regular_file()) found.push_back(entry.path());
  }
  for (const fs::path& file : found) {
    std::error_code error;
    fs::remove(file, error);
    if (error) throw file_error(file, "cannot be deleted", error);
  }
}

}  // namespace drystone::core
