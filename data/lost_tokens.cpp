#include "data/lost_tokens.h"

#include <limits>

namespace drystone::data {

std::size_t num_lost(const TextEncoder& encoder, const Record& record, std::size_t length,
                     std::int64_t max_length) {
  if (length < static_cast<std::size_t>(max_length)) return 0;
  return encoder.encode(record, 0).ids.size() - length;
}

std::size_t num_lost(const SequenceEncoder& unbound, const Record& record, std::size_t length,
                     std::int64_t max_length) {
  if (length < static_cast<std::size_t>(max_length)) return 0;
  const auto whole = unbound.encode(record, "");  // was encoded before: nothing is refused
  return whole ? whole->ids.size() - length : 0;
}

SequenceOptions unbound(SequenceOptions options) {
  options.max_length = std::numeric_limits<std::int64_t>::max();
  options.num_rows = 0;
  return options;
}

}  // namespace drystone::data
