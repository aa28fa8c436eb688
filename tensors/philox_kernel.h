#pragma once
// The constants of Philox4x32-10 and of its normals, and the loop over a row.

#include <array>
#include <cstdint>

namespace drystone::tensors::philox_kernel {

inline constexpr std::uint32_t kMultiplier0 = 0xD2511F53;
inline constexpr std::uint32_t kMultiplier1 = 0xCD9E8D57;
inline constexpr std::uint32_t kWeyl0 = 0x9E3779B9;
inline constexpr std::uint32_t kWeyl1 = 0xBB67AE85;
inline constexpr int kRounds = 10;

inline constexpr std::int32_t kRootHalf = 0x3F3504F3;  // bits of √½
inline constexpr float kLn2 = 0.693147181F;
inline constexpr float kQuarterTurn = 1.57079633F * 0x1p-32F;  // of a 32-bit fraction
// 2·artanh(s) / s − 2, sin(t) / t − 1 and cos(t) − 1 by their series in s² and t²: exact to half a
// unit in the last place for |s| ≤ 0.172 and |t| ≤ π/4.
inline constexpr std::array<float, 4> kLog = {2.0F / 3, 2.0F / 5, 2.0F / 7, 2.0F / 9};
inline constexpr std::array<float, 4> kSin = {-1.0F / 6, 1.0F / 120, -1.0F / 5040, 1.0F / 362880};
inline constexpr std::array<float, 4> kCos = {-1.0F / 2, 1.0F / 24, -1.0F / 720, 1.0F / 40320};

/// c₀·x + c₁·x² + c₂·x³ + c₃·x⁴ of a number or of a tensor.
template <typename Value>
Value series(const std::array<float, 4>& c, const Value& x) {
  return (((x * c[3] + c[2]) * x + c[1]) * x + c[0]) * x;
}

/// Fills `out` with the first `columns` elements of a row.
void fill_row(std::uint64_t key, std::int64_t row, std::int64_t columns, float* out);

}  // namespace drystone::tensors::philox_kernel
