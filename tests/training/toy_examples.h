#pragma once
// Learnable examples for tests::ToyModel: the label is the first token modulo the classes.

#include <cstdint>
#include <vector>

#include "core/seed.h"
#include "training/examples.h"

namespace drystone::test {

inline training::Examples toy_examples(std::uint64_t seed, std::size_t count,
                                       std::int64_t classes = 3) {
  core::SplitMix64 random(seed);
  training::Examples examples;
  for (std::size_t i = 0; i < count; ++i) {
    const auto token = static_cast<text::TokenId>(random.below(20));
    const std::vector<text::TokenId> ids(1 + random.below(6), token);
    examples.dataset.add(ids, token % classes, static_cast<float>(token) / 20.0F);
  }
  return examples;
}

}  // namespace drystone::test
