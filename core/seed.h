#pragma once
// Every random stream is keyed: the same (seed, round, client, purpose) gives the same numbers
// wherever and whenever it is drawn.

#include <cstdint>
#include <string_view>

namespace drystone::core {

/// Key of one random stream. `client` is the client's name ("" where the stream belongs to nobody);
/// `purpose` says what it is for, e.g. "lora-init/encoder.layer.0.attention.self.query".
struct StreamKey {
  std::uint64_t seed = 0;
  std::uint64_t round = 0;
  std::string_view client = {};
  std::string_view purpose = {};
};

/// 64-bit seed of the stream: FNV-1a over the fields, finished by SplitMix64. Not cryptographic.
std::uint64_t stream_seed(const StreamKey& key);

/// SplitMix64 (Steele et al., 2014): a tiny generator for shuffles and draws outside LibTorch.
/// Unlike <random>'s distributions, its results are the same on every platform.
class SplitMix64 {
 public:
  using result_type = std::uint64_t;
  explicit SplitMix64(std::uint64_t seed) : state_(seed) {}
  explicit SplitMix64(const StreamKey& key) : SplitMix64(stream_seed(key)) {}

  std::uint64_t operator()();
  /// Uniform in [0, bound), without modulo bias. `bound` > 0.
  std::uint64_t below(std::uint64_t bound);
  /// Uniform in [0, 1) with 53 bits.
  double uniform();
  /// Standard normal (Box–Muller).
  double normal();

  static constexpr std::uint64_t min() { return 0; }
  static constexpr std::uint64_t max() { return ~std::uint64_t{0}; }

 private:
  std::uint64_t state_;
};

/// Fisher–Yates with `random`; the same order on every platform, unlike std::shuffle.
template <typename Container>
void shuffle(Container& items, SplitMix64& random) {
  for (std::size_t i = items.size(); i > 1; --i) {
    std::swap(items[i - 1], items[static_cast<std::size_t>(random.below(i))]);
  }
}

}  // namespace drystone::core
