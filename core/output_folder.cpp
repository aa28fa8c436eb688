#include "core/output_folder.h"

#include <algorithm>
#include <system_error>

namespace drystone::core {

namespace fs = std::filesystem;

namespace {

bool is_log(const fs::path& file) {
  return file.filename() == "log.txt" || file.filename() == "metrics.jsonl";
}

/// What was not found in the folder; one with a database holds somebody's run, and is left alone.
void remove_new(const fs::path& dir, const std::set<fs::path>& found) {
  const auto is_database = [&](const fs::path& path) {
    return path.parent_path() == dir && path.extension() == ".sqlite";
  };
  if (std::ranges::any_of(found, is_database)) return;
  std::vector<fs::path> made;
  for (const auto& entry : fs::directory_iterator(dir)) {
    if (!found.contains(entry.path())) {
      made.push_back(entry.path());
    } else if (entry.is_directory() && !entry.is_symlink()) {
      remove_new(entry.path(), found);
    }
  }
  for (const fs::path& path : made) fs::remove_all(path);
}

bool holds_only_logs(const fs::path& dir) {
  const fs::recursive_directory_iterator inside(dir);
  return std::all_of(begin(inside), end(inside), [](const fs::directory_entry& entry) {
    return entry.is_directory() || is_log(entry.path());
  });
}

}  // namespace

OutputFolder::OutputFolder(const fs::path& dir) : dir_(dir) {
  for (fs::path part = dir; !part.empty() && !fs::exists(part); part = part.parent_path()) {
    made_.push_back(part);
  }
  std::error_code error;
  fs::create_directories(dir, error);
  if (error) throw IoError(dir.string() + ": the folder cannot be made: " + error.message());
  fs::recursive_directory_iterator inside(dir, error);
  for (; !error && inside != fs::recursive_directory_iterator(); inside.increment(error)) {
    found_.insert(inside->path());
  }
  knows_all_ = !error;
}

void OutputFolder::abandon() noexcept try {
  for (const fs::path& dir : made_) {
    if (holds_only_logs(dir)) fs::remove_all(dir);
  }
} catch (const fs::filesystem_error&) {  // it stays: the refusal is what the user must hear of
}

void OutputFolder::withdraw() noexcept try {
  if (knows_all_) remove_new(dir_, found_);
  abandon();
} catch (const fs::filesystem_error&) {  // as in abandon
}

void OutputFolder::discard() noexcept {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(dir_, ignored)) {
    fs::remove_all(entry.path(), ignored);
  }
  abandon();
}

}  // namespace drystone::core
