#include "text/token_cache.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace drystone::text {

TokenCache& TokenCache::of_thread(std::uint64_t owner) {
  constexpr std::size_t kMostCaches = 4;
  using Entry = std::pair<std::uint64_t, std::unique_ptr<TokenCache>>;
  thread_local std::vector<Entry> caches;  // the one used last comes first
  auto found = std::find_if(caches.begin(), caches.end(),
                            [owner](const Entry& entry) { return entry.first == owner; });
  if (found == caches.end()) {
    if (caches.size() == kMostCaches) caches.pop_back();
    found = caches.emplace(caches.end(), owner, std::make_unique<TokenCache>());
  }
  std::rotate(caches.begin(), found, found + 1);
  return *caches.front().second;
}

}  // namespace drystone::text
