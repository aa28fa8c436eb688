#include "coordinator/earlier_life.h"

#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/state_lock.h"
#include "coordinator/store.h"
#include "core/error.h"

namespace drystone::coordinator {

namespace fs = std::filesystem;

namespace {

constexpr const char* kRemedy =
    "; restore the state folder from its newest copy, or begin anew with --start-over, which "
    "deletes what is there, or in another folder";

bool is_carry(const fs::path& file) { return file.filename().string().starts_with("carry-"); }

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

std::size_t num_versions(const fs::path& run) {
  std::error_code ignored;
  const fs::directory_iterator versions(run / "versions", ignored);
  return static_cast<std::size_t>(std::distance(begin(versions), end(versions)));
}

void remove_whole(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) throw core::IoError(path.string() + ": cannot be deleted: " + error.message());
}

}  // namespace

void refuse_earlier_life(const fs::path& state) {
  const std::size_t count = num_payloads(state);
  if (count == 0) return;
  throw core::ConfigError(state.string() + ": holds " + std::to_string(count) +
                          " payloads of an earlier life, but state.sqlite is missing or empty" +
                          kRemedy);
}

void refuse_earlier_run(const fs::path& run, const fs::path& state) {
  const std::size_t published = num_versions(run);
  if (!fs::exists(state / "state.sqlite")) {
    refuse_earlier_life(state);
    if (published == 0) return;
    throw core::ConfigError(run.string() + ": holds the versions of an earlier run, but " +
                            state.string() + " holds no state" + kRemedy);
  }
  if (published == 0) return;
  const std::uint64_t newest = Store(state).load().version;
  if (published <= newest + 1) return;
  throw core::ConfigError(run.string() + ": holds version " + std::to_string(published - 1) +
                          ", but the newest that " + state.string() + " knows is " +
                          std::to_string(newest) + kRemedy);
}

void start_over(const fs::path& run, const fs::path& state) {
  std::optional<StateLock> lock;
  if (fs::is_directory(state)) {
    lock.emplace(state);
    for (const char* const name :
         {"state.sqlite", "state.sqlite-wal", "state.sqlite-shm", "blobs", "clients", "memory",
          "next.safetensors", "initial.safetensors"}) {
      remove_whole(state / name);
    }
    std::vector<fs::path> carries;
    for (const auto& entry : fs::directory_iterator(state)) {
      if (is_carry(entry.path())) carries.push_back(entry.path());
    }
    for (const fs::path& carry : carries) remove_whole(carry);
  }
  for (const char* const name : {"versions", "global", "report.json", "report.html", "config.toml",
                                 "layout.json", "SHA256SUMS", "metrics.jsonl"}) {
    remove_whole(run / name);
  }
}

}  // namespace drystone::coordinator
