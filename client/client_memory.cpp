#include "client/client_memory.h"

#include <charconv>
#include <utility>

#include "core/files.h"
#include "core/mapped_file.h"
#include "core/temporary_files.h"
#include "crypto/hash.h"
#include "tensors/safetensors.h"
#include "tensors/safetensors_writer.h"

namespace drystone::client {

namespace fs = std::filesystem;

namespace {

constexpr const char* kEnding = ".safetensors";
constexpr const char* kFederation = "federation";

/// The round that a file is of; none: another file.
std::optional<std::uint64_t> round_of(const fs::path& file) {
  if (file.extension() != kEnding) return std::nullopt;
  const std::string digits = file.stem().string();
  const char* end = digits.data() + digits.size();
  std::uint64_t round = 0;
  const auto [rest, error] = std::from_chars(digits.data(), end, round);
  if (error != std::errc() || rest != end) return std::nullopt;
  return round;
}

bool is_of(const tensors::SafetensorsFile& file, const std::string& federation) {
  const auto found = file.header().metadata.find(kFederation);
  return found != file.header().metadata.end() && found->second == federation;
}

}  // namespace

// A folder a federation: none can write over another's rounds.
ClientMemory::ClientMemory(fs::path folder, std::string federation)
    : folder_(std::move(folder)), federation_(std::move(federation)) {
  constexpr std::size_t kNameBytes = 8;
  if (folder_.empty()) return;
  const core::Digest name = crypto::sha256(core::as_bytes(federation_));
  folder_ /= core::to_hex(core::ByteView(name).first(kNameBytes));
}

fs::path ClientMemory::file(std::uint64_t round) const {
  return folder_ / (std::to_string(round) + kEnding);
}

std::optional<std::uint64_t> ClientMemory::newest_before(std::uint64_t round) const {
  std::optional<std::uint64_t> newest;
  if (folder_.empty() || !fs::is_directory(folder_)) return newest;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
    const auto other = round_of(entry.path());
    if (!other || *other >= round || (newest && *other < *newest)) continue;
    if (is_of(tensors::SafetensorsFile(entry.path()), federation_)) newest = other;
  }
  return newest;
}

ClientMemory::Tensors ClientMemory::before(std::uint64_t round) const {
  Tensors found;
  const auto newest = newest_before(round);
  if (!newest) return found;
  const tensors::SafetensorsFile saved(file(*newest));
  for (const auto& [name, info] : saved.header().tensors) found[name] = saved.tensor(name);
  return found;
}

void ClientMemory::keep(std::uint64_t round, const Tensors& tensors) const {
  if (folder_.empty()) return;
  const tensors::NamedTensors named(tensors.begin(), tensors.end());
  put({round, tensors::to_safetensors(named, {{kFederation, federation_}})});
}

std::optional<ClientMemory::Kept> ClientMemory::carry_before(std::uint64_t round) const {
  const auto newest = newest_before(round);
  return newest ? carry(*newest) : std::nullopt;
}

std::optional<ClientMemory::Kept> ClientMemory::carry(std::uint64_t round) const {
  if (folder_.empty() || !fs::exists(file(round))) return std::nullopt;
  const core::MappedFile saved(file(round));
  return Kept{round, {saved.bytes().begin(), saved.bytes().end()}};
}

void ClientMemory::put(const Kept& kept) const {
  const auto used = newest_before(kept.round);
  core::sweep_temporaries(folder_);
  core::write_file_atomic(file(kept.round), kept.file, 0600);
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
    const auto other = round_of(entry.path());
    if (other && *other != kept.round && other != used) fs::remove(entry.path());
  }
}

}  // namespace drystone::client
