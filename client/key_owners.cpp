#include "client/key_owners.h"

#include <algorithm>
#include <set>

#include "core/log.h"
#include "core/shorten.h"

namespace drystone::client {

namespace {

constexpr std::size_t kTold = 20;

using Keys = std::set<std::string>;

Keys keys_of(std::span<const std::string> keys, const std::vector<std::size_t>& part) {
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

void tell_key_owners(const core::Config& config, std::span<const std::string> keys,
                     const data::Partition& parts, const std::vector<std::string>& clients) {
  const bool are_files = config.data.partition == "by-file";
  const char* const kind = are_files ? "file" : "key";
  std::size_t num_keys = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Keys own = keys_of(keys, parts[i]);
    num_keys += own.size();
    if (i >= kTold) continue;
    const std::string text = shown(own);
    core::log_info("client's data", {{"client", std::string_view(clients[i])},
                                     {kind, std::string_view(text)},
                                     {"examples", static_cast<std::int64_t>(parts[i].size())}});
  }
  if (parts.size() > kTold) {
    core::log_info("further clients' data, dealt out in the same way",
                   {{"clients", static_cast<std::int64_t>(parts.size() - kTold)}});
  }
  if (num_keys == parts.size()) return;
  core::log_warning(are_files ? "more files than clients: some clients get several"
                              : "more values of data.partition_key than clients: some clients get "
                                "several",
                    {{are_files ? "files" : "values", static_cast<std::int64_t>(num_keys)},
                     {"clients", static_cast<std::int64_t>(parts.size())}});
}

}  // namespace drystone::client
