#include "training/held_out.h"

#include <set>

#include <doctest/doctest.h>

namespace drystone::training {
namespace {

data::Dataset numbered(int count) {
  data::Dataset dataset;
  for (int i = 0; i < count; ++i) dataset.add(std::vector<text::TokenId>{1, 2}, i, 0.0F);
  return dataset;
}

std::set<std::int64_t> labels(const data::Dataset& dataset) {
  return {dataset.labels().begin(), dataset.labels().end()};
}

TEST_CASE("hold_out: two disjoint parts of the asked sizes, the same for the same key") {
  const data::Dataset examples = numbered(50);
  const SplitExamples split = hold_out(examples, 0.2, {.seed = 1, .client = "a"});
  CHECK(split.training.size() == 40);
  CHECK(split.held_out.size() == 10);
  std::set<std::int64_t> all = labels(split.training);
  all.merge(labels(split.held_out));
  CHECK(all.size() == 50);
  CHECK(labels(hold_out(examples, 0.2, {.seed = 1, .client = "a"}).held_out) ==
        labels(split.held_out));
  CHECK(labels(hold_out(examples, 0.2, {.seed = 1, .client = "b"}).held_out) !=
        labels(split.held_out));
}

TEST_CASE("hold_out: at least one on either side; too few examples are used by both") {
  CHECK(hold_out(numbered(5), 0.01, {}).held_out.size() == 1);
  CHECK(hold_out(numbered(5), 0.99, {}).training.size() == 1);
  const SplitExamples both = hold_out(numbered(4), 0.2, {});
  CHECK(both.training.size() == 4);
  CHECK(both.held_out.size() == 4);
}

}  // namespace
}  // namespace drystone::training
