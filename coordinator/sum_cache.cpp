#include "coordinator/sum_cache.h"

#include <set>
#include <string_view>

#include "coordinator/state_folder.h"
#include "core/check.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "wire/durable_file.h"

namespace drystone::coordinator {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kPrefix = "sum-";

}  // namespace

fs::path SumCache::file(std::uint64_t version) const {
  return dir_ / (std::string(kPrefix) + std::to_string(version) + ".safetensors");
}

fs::path SumCache::hash_file(std::uint64_t version) const {
  return dir_ / (std::string(kPrefix) + std::to_string(version) + ".sha256");
}

void SumCache::forget(std::uint64_t version) const {
  std::error_code ignored;  // a file that stays is room wasted, and is removed at the next start
  fs::remove(hash_file(version), ignored);
  fs::remove(file(version), ignored);
}

bool SumCache::is_whole(std::uint64_t version, const std::vector<SummedVersion>& versions) const {
  try {
    if (version >= versions.size() || !fs::exists(hash_file(version))) return false;
    if (core::read_text_file(hash_file(version), 256) !=
        core::to_hex(wire::hash_file(file(version)))) {
      core::log_warning("the sum of the versions is damaged: it is made again",
                        {{"file", std::string_view(file(version).native())}});
      return false;
    }
    const aggregation::PublishedSum sum(file(version));
    return sum.version() == version && sum.head() == versions[version].head;
  } catch (const core::IoError&) {
    return false;
  }
}

void SumCache::find(const std::vector<SummedVersion>& versions) {
  std::set<std::uint64_t> there;
  for (const auto& entry : fs::directory_iterator(dir_)) {
    if (const auto version = version_of_sum(entry.path().filename().string()))
      there.insert(*version);
  }
  newest_.reset();
  for (auto version = there.rbegin(); version != there.rend(); ++version) {
    if (!newest_ && is_whole(*version, versions)) {
      newest_ = *version;
      head_ = versions[*version].head;
    } else {
      forget(*version);
    }
  }
  for (const auto& entry : fs::directory_iterator(dir_)) {  // what a writer had begun
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kPrefix) && name.ends_with(".data")) fs::remove(entry.path());
  }
}

std::optional<aggregation::PublishedSum> SumCache::sum_of(
    const std::vector<SummedVersion>& versions, const aggregation::SumProgress& progress) {
  core::require(!versions.empty(), "sum: no version");
  const bool is_known = newest_ && *newest_ < versions.size() && versions[*newest_].head == head_;
  if (!is_known) find(versions);
  for (std::uint64_t next = newest_ ? *newest_ + 1 : 0; next < versions.size(); ++next) {
    const SummedVersion& version = versions[next];
    const bool is_done = aggregation::add_version({.before = newest_ ? file(*newest_) : fs::path(),
                                                   .payload = version.payload,
                                                   .mode = version.mode,
                                                   .version = next,
                                                   .head = version.head,
                                                   .max_member_rank = max_member_rank_,
                                                   .after = file(next)},
                                                  progress);
    if (!is_done) return std::nullopt;
    wire::File::open_for_writing(file(next)).sync();
    core::write_file_atomic(hash_file(next),
                            core::as_bytes(core::to_hex(wire::hash_file(file(next)))));
    if (newest_) forget(*newest_);
    newest_ = next;
    head_ = version.head;
  }
  return aggregation::PublishedSum(file(*newest_));
}

}  // namespace drystone::coordinator
