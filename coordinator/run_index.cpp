#include "coordinator/run_index.h"

#include <sstream>

#include "core/error.h"
#include "core/files.h"
#include "wire/durable_file.h"

namespace drystone::coordinator {

namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kMaxIndexBytes = 1 << 16;
constexpr std::size_t kHexDigits = 2 * core::Digest{}.size();

}  // namespace

void remove_run_index(const fs::path& run) {
  std::error_code error;
  if (fs::remove(run / kRunIndex, error)) core::sync_folder(run);
  if (error) throw core::IoError((run / kRunIndex).string() + ": cannot be removed");
}

void write_run_index(const fs::path& run) {
  std::string text;
  for (const char* const name : kIndexedFiles) {
    if (!fs::exists(run / name)) continue;
    text += core::to_hex(wire::hash_file(run / name)) + "  " + name + "\n";
  }
  core::write_file_atomic(run / kRunIndex, core::as_bytes(text));
}

std::map<std::string, core::Digest> read_run_index(const fs::path& run) {
  std::map<std::string, core::Digest> index;
  if (!fs::exists(run / kRunIndex)) return index;
  std::istringstream lines(core::read_text_file(run / kRunIndex, kMaxIndexBytes));
  for (std::string line; std::getline(lines, line);) {
    const bool is_line = line.size() > kHexDigits + 2 && line.substr(kHexDigits, 2) == "  " &&
                         line.find_first_not_of("0123456789abcdef") == kHexDigits;
    if (!is_line) throw core::IoError(std::string(kRunIndex) + ": not lines of sha256sum");
    index[line.substr(kHexDigits + 2)] = core::digest_from_hex(line.substr(0, kHexDigits));
  }
  return index;
}

}  // namespace drystone::coordinator
