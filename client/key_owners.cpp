#include "client/key_owners.h"

#include <algorithm>
#include <iterator>
#include <set>

#include "core/log.h"
#include "core/shorten.h"

namespace drystone::client {

namespace {

constexpr std::size_t kTold = 20;

using Keys = std::set<std::string>;

Keys keys_of(std::span<const std::string> keys, std::span<const std::size_t> part) {
  Keys found;
  for (const std::size_t index : part) found.insert(keys[index]);
  return found;
}

/// All of a client's keys, as far as they fit a line.
std::string shown(const Keys& keys) {
  constexpr std::size_t kKeyBytes = 60;
  constexpr std::size_t kLineBytes = 200;
  std::string text;
  for (const std::string& key : keys) {
    text += (text.empty() ? "" : ", ") + core::shorten(key, kKeyBytes);
    if (text.size() > kLineBytes) break;
  }
  return core::shorten(text, kLineBytes);
}

}  // namespace

std::vector<KeyOwner> key_owners(std::span<const std::string> keys, const data::Partition& parts,
                                 const core::NameList& clients) {
  std::vector<KeyOwner> owners;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Keys own = keys_of(keys, parts[i]);
    owners.push_back({.client = clients[i],
                      .keys = shown(own),
                      .num_keys = std::ssize(own),
                      .num_examples = std::ssize(parts[i])});
  }
  return owners;
}

void tell_key_owners(const core::Config& config, std::span<const KeyOwner> owners,
                     const HearKeyOwner& hear) {
  const bool are_files = config.data.partition == "by-file";
  const char* const kind = are_files ? "file" : "key";
  std::int64_t num_keys = 0;
  for (const KeyOwner& owner : owners) {
    num_keys += owner.num_keys;
    if (hear) hear(owner);
  }
  for (const KeyOwner& owner : owners.first(std::min(owners.size(), kTold))) {
    core::log_info("client's data", {{"client", std::string_view(owner.client)},
                                     {kind, std::string_view(owner.keys)},
                                     {"examples", owner.num_examples}});
  }
  const std::int64_t num_clients = std::ssize(owners);
  if (owners.size() > kTold) {
    core::log_info("further clients' data, dealt out in the same way",
                   {{"clients", static_cast<std::int64_t>(owners.size() - kTold)}});
  }
  if (num_keys == num_clients) return;
  core::log_warning(
      are_files ? "more files than clients: some clients get several"
                : "more values of data.partition_key than clients: some clients get several",
      {{are_files ? "files" : "values", num_keys}, {"clients", num_clients}});
}

}  // namespace drystone::client
