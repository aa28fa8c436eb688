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
}

std::filesystem::path temporary_beside(const std::filesystem::path& path) {
  std::array<std::uint8_t, 8> number{};
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
    const std::string suffix = entry.path().extension().string();
    const bool is_temporary =
        suffix.starts_with(kTemporary) && suffix.size() > kTemporary.size() &&
        suffix.find_first_not_of("0123456789abcdef-", kTemporary.size()) == std::string::npos;
    if (is_temporary && entry.is_regular_file()) found.push_back(entry.path());
  }
  for (const fs::path& file : found) {
    std::error_code error;
    fs::remove(file, error);
    if (error) throw file_error(file, "cannot be deleted", error);
  }
}

}  // namespace drystone::core
