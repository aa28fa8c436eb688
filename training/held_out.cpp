#include "training/held_out.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "core/log.h"

namespace drystone::training {

SplitExamples hold_out(const data::Dataset& examples, double share, const core::StreamKey& key) {
  constexpr std::size_t kFewest = 5;
  const std::size_t size = examples.size();
  if (size < kFewest) {
    core::log_warning("too few examples to set some apart; both levels use all of them",
                      {{"client", key.client}, {"examples", static_cast<std::int64_t>(size)}});
    return {.training = examples, .held_out = examples};
  }
  std::vector<std::size_t> order(size);
  std::iota(order.begin(), order.end(), std::size_t{0});
  core::SplitMix64 random(key);
  core::shuffle(order, random);
  const auto wanted = static_cast<std::size_t>(std::llround(share * static_cast<double>(size)));
  const std::size_t count = std::clamp<std::size_t>(wanted, 1, size - 1);
  const std::span<const std::size_t> all(order);
  return {.training = examples.subset(all.subspan(count)),
          .held_out = examples.subset(all.first(count))};
}

}  // namespace drystone::training
