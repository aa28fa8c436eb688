#include "data/cut_texts.h"

#include <limits>

#include "core/log.h"

namespace drystone::data {

void CutTexts::warn(std::string_view what, std::size_t num_examples,
                    std::int64_t max_length) const {
  if (examples_ == 0) return;
  core::log_warning("texts are cut to max_length",
                    {{"of", what},
                     {"cut", static_cast<std::int64_t>(examples_)},
                     {"examples", static_cast<std::int64_t>(num_examples)},
                     {"tokens_lost", static_cast<std::int64_t>(tokens_)},
                     {"max_length", max_length}});
}

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
  return options;
}

}  // namespace drystone::data
