#include "core/log_rate.h"

#include <utility>

namespace drystone::core {

std::optional<std::int64_t> LogRate::admit(std::string_view phrase, Instant now) {
  auto found = counts_.find(phrase);
  if (found == counts_.end()) found = counts_.emplace(phrase, Count{.begun = now}).first;
  Count& count = found->second;
  if (now - count.begun >= kWindow) {
    count.begun = now;
    count.written = 0;
  }
  if (count.written == kLines) {
    ++count.dropped;
    return std::nullopt;
  }
  ++count.written;
  return std::exchange(count.dropped, 0);
}

}  // namespace drystone::core
