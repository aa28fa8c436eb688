#include "data/cut_texts.h"

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

}  // namespace drystone::data
