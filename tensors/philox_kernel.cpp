// The loop that fills a row. The bits are part of a definition: CMakeLists.txt forbids contraction
// into fused multiply-adds.

#include "tensors/philox_kernel.h"

#include <bit>
#include <cmath>

// On x86 the loop exists for wider vectors too; the loader picks one.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define DRYSTONE_WIDE_VECTORS __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define DRYSTONE_WIDE_VECTORS
#endif

namespace drystone::tensors::philox_kernel {
namespace {

constexpr std::int64_t kLanes = 32;  // blocks of four words at a time; 16 are unrolled, not vectors

/// ln(u) for 0 < u ≤ 1.
inline float natural_log(float u) {
  const auto bits = std::bit_cast<std::int32_t>(u);
  const std::int32_t exponent = (bits - kRootHalf) >> 23;
  const auto m = std::bit_cast<float>(bits - exponent * (1 << 23));
  const float s = (m - 1.0F) / (m + 1.0F);
  return static_cast<float>(exponent) * kLn2 + (series(kLog, s * s) * s + s * 2.0F);
}

/// Box–Muller: the radius from the upper 31 bits of `a`, the angle from `b`.
inline void normal_pair(std::uint32_t a, std::uint32_t b, float& first, float& second) {
  const float u = static_cast<float>(static_cast<std::int32_t>(a >> 1)) * 0x1p-31F + 0x1p-32F;
  const float radius = std::sqrt(natural_log(u) * -2.0F);
  const float t = static_cast<float>(static_cast<std::int32_t>(b << 2)) * kQuarterTurn;
  const float square = t * t;
  const float sine = series(kSin, square) * t + t;
  const float cosine = series(kCos, square) + 1.0F;
  const std::uint32_t quadrant = b >> 30;
  const bool swaps = (quadrant & 1) != 0;
  const auto x = std::bit_cast<std::uint32_t>((swaps ? sine : cosine) * radius);
  const auto y = std::bit_cast<std::uint32_t>((swaps ? cosine : sine) * radius);
  first = std::bit_cast<float>(x ^ (((quadrant + 1) & 2) << 30));
  second = std::bit_cast<float>(y ^ ((quadrant & 2) << 30));
}

/// 4 · kLanes normals of one row from block `block` on.
DRYSTONE_WIDE_VECTORS
void fill_lanes(std::uint64_t key, std::uint32_t row, std::uint32_t block, float* out) {
  std::uint32_t c0[kLanes];
  std::uint32_t c1[kLanes];
  std::uint32_t c2[kLanes];
  std::uint32_t c3[kLanes];
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
    c0[lane] = block + lane;
    c1[lane] = row;
    c2[lane] = 0;
    c3[lane] = 0;
  }
  auto k0 = static_cast<std::uint32_t>(key);
  auto k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < kRounds; ++round, k0 += kWeyl0, k1 += kWeyl1) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const std::uint64_t p0 = std::uint64_t{kMultiplier0} * c0[lane];
      const std::uint64_t p1 = std::uint64_t{kMultiplier1} * c2[lane];
      c0[lane] = static_cast<std::uint32_t>(p1 >> 32) ^ c1[lane] ^ k0;
      c1[lane] = static_cast<std::uint32_t>(p1);
      c2[lane] = static_cast<std::uint32_t>(p0 >> 32) ^ c3[lane] ^ k1;
      c3[lane] = static_cast<std::uint32_t>(p0);
    }
  }
  float z[4][kLanes];
  for (std::int64_t lane = 0; lane < kLanes; ++lane) {
    normal_pair(c0[lane], c1[lane], z[0][lane], z[1][lane]);
    normal_pair(c2[lane], c3[lane], z[2][lane], z[3][lane]);
  }
  for (std::int64_t lane = 0; lane < kLanes; ++lane) {
    for (std::int64_t word = 0; word < 4; ++word) out[4 * lane + word] = z[word][lane];
  }
}

}  // namespace

void fill_row(std::uint64_t key, std::int64_t row, std::int64_t columns, float* out) {
  constexpr std::int64_t kAtOnce = 4 * kLanes;
  const auto place = static_cast<std::uint32_t>(row);
  std::int64_t column = 0;
  for (; column + kAtOnce <= columns; column += kAtOnce) {
    fill_lanes(key, place, static_cast<std::uint32_t>(column / 4), out + column);
  }
  if (column == columns) return;
  std::array<float, kAtOnce> last{};
  fill_lanes(key, place, static_cast<std::uint32_t>(column / 4), last.data());
  for (std::int64_t i = 0; column < columns; ++i) out[column++] = last[static_cast<std::size_t>(i)];
}

}  // namespace drystone::tensors::philox_kernel
