#include "core/output_folder.h"

#include <algorithm>
#include <system_error>

#include "core/file_errors.h"

namespace drystone::core {

namespace fs = std::filesystem;

namespace {

bool is_log(const fs::path& file) {
  return file.filename() == "log.txt" || file.filename() == "metrics.jsonl";
}

bool holds_only_logs(const fs::path& dir) {
  const fs::recursive_directory_iterator inside(dir);
  return std::all_of(begin(inside), end(inside), [](const fs::directory_entry& entry) {
    return entry.is_directory() || is_log(entry.path());
  });
}

}  // namespace

OutputFolder::OutputFolder(const fs::path& dir) : dir_(dir) {
  std::error_code error;
  for (fs::path part = dir; !part.empty() && !fs::exists(part, error); part = part.parent_path()) {
    made_.push_back(part);
  }
  fs::create_directories(dir, error);
  if (error) {
    abandon();
    throw file_error(dir, "the folder cannot be made", error);
  }
}

void OutputFolder::abandon() noexcept try {
  std::error_code ignored;
  for (const fs::path& dir : made_) {
    if (fs::is_directory(dir, ignored) && holds_only_logs(dir)) fs::remove_all(dir);
  }
} catch (const fs::filesystem_error&) {  // it stays: the refusal is what the user must hear of
}

void OutputFolder::discard() noexcept {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(dir_, ignored)) {
    fs::remove_all(entry.path(), ignored);
  }
  abandon();
}

}  // namespace drystone::core
