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

namespace {

void warn(const Shortened& set, std::int64_t max_length) {
  if (set.left_out > 0) {
    core::log_warning("examples left out: max_length leaves nothing to learn in them",
                      {{"examples_of", set.of}, {"left_out", set.left_out}});
  }
  set.cut.warn(set.of, set.num_examples, max_length);
}

}  // namespace

void warn(std::span<const Shortened> sets, std::int64_t max_length) {
  constexpr std::size_t kTold = 20;
  std::size_t concerned = 0;
  Shortened more;
  for (const Shortened& set : sets) {
    if (set.left_out == 0 && set.cut.examples() == 0) continue;
    if (++concerned <= kTold) {
      warn(set, max_length);
      continue;
    }
    more.num_examples += set.num_examples;
    more.cut.add(set.cut);
    more.left_out += set.left_out;
  }
  if (concerned <= kTold) return;
  more.of = std::to_string(concerned - kTold) + " more";
  warn(more, max_length);
}

}  // namespace drystone::data
