#include "client/storage.h"

#include <algorithm>
#include <filesystem>
#include <string>

#include "core/error.h"
#include "core/log.h"
#include "core/text.h"
#include "wire/durable_file.h"

namespace drystone::client {

bool Storage::holds(const core::Digest& payload, std::uint64_t bytes) {
  if (!blobs_.contains(payload)) return false;
  if (blobs_.size(payload) == bytes && wire::hash_file(blobs_.path(payload)) == payload) {
    return true;
  }
  const std::string file = blobs_.path(payload).string();
  core::log_warning("a payload on this disk is damaged, fetching it again",
                    {{"file", std::string_view(file)}});
  blobs_.remove(payload);
  return false;
}

void Storage::make_room(const core::Digest& payload, std::uint64_t bytes) {
  blobs_.remove_partials({&payload, 1});
  const auto fits = [&] { return bytes <= max_bytes_ && used() <= max_bytes_ - bytes; };
  while (!fits() && !applied_.empty()) {
    blobs_.remove(applied_.front());
    applied_.erase(applied_.begin());
  }
  const std::string what = "a version of " + core::format_bytes(bytes);
  if (!fits()) {
    throw core::Error("client.max_storage: " + what + " does not fit " +
                      core::format_bytes(max_bytes_) + ", of which " + core::format_bytes(used()) +
                      " are in use; set it to at least " + std::to_string(used() + bytes));
  }
  const std::filesystem::path folder = blobs_.path(payload).parent_path();
  std::error_code unknown;
  const std::uint64_t free = std::filesystem::space(folder, unknown).available;
  if (unknown) return;
  const std::uint64_t missing = bytes - std::min(bytes, partial_bytes(payload));
  if (free < kFreeReserve || free - kFreeReserve < missing) {
    throw core::IoError(folder.string() + ": " + what + " does not fit the disk, where " +
                        core::format_bytes(free) + " are free and " +
                        core::format_bytes(kFreeReserve) + " stay so; make room and start again");
  }
}

void Storage::sweep(const std::vector<core::Digest>& needed) {
  blobs_.remove_partials(needed);
  for (const core::Digest& blob : blobs_.all()) {
    const bool is_known = std::ranges::find(needed, blob) != needed.end() ||
                          std::ranges::find(applied_, blob) != applied_.end();
    if (!is_known) blobs_.remove(blob);
  }
}

std::uint64_t Storage::used() const {
  std::uint64_t bytes = 0;
  for (const core::Digest& blob : blobs_.all()) bytes += blobs_.size(blob);
  return bytes;
}

std::uint64_t Storage::partial_bytes(const core::Digest& payload) const {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(blobs_.partial_path(payload), error);
  return error ? 0 : bytes;
}

}  // namespace drystone::client
