#include "tensors/philox.h"

#include <utility>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include "tensors/philox_kernel.h"

namespace drystone::tensors {
namespace {

using namespace philox_kernel;

constexpr std::int64_t kLow32 = 0xFFFFFFFF;

/// The four words of every block as int64 tensors of the counters' shape.
using Words = std::array<at::Tensor, 4>;

// A product of 32-bit words wraps in int64 as it does in uint64; the mask after the arithmetic
// shift leaves its upper half.
Words philox_words(Words c, std::uint64_t key) {
  auto k0 = static_cast<std::uint32_t>(key);
  auto k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < kRounds; ++round, k0 += kWeyl0, k1 += kWeyl1) {
    const at::Tensor p0 = c[0] * std::int64_t{kMultiplier0};
    const at::Tensor p1 = c[2] * std::int64_t{kMultiplier1};
    const at::Tensor high0 = p0.bitwise_right_shift(32).bitwise_and_(kLow32);
    const at::Tensor high1 = p1.bitwise_right_shift(32).bitwise_and_(kLow32);
    c = {high1.bitwise_xor(c[1]).bitwise_xor_(std::int64_t{k0}), p1.bitwise_and(kLow32),
         high0.bitwise_xor(c[3]).bitwise_xor_(std::int64_t{k1}), p0.bitwise_and(kLow32)};
  }
  return c;
}

/// natural_log, operation by operation.
at::Tensor natural_log(const at::Tensor& u) {
  const at::Tensor bits = u.view(at::kInt);
  const at::Tensor exponent = (bits - kRootHalf).bitwise_right_shift(23);
  const at::Tensor m = (bits - exponent * (1 << 23)).view(at::kFloat);
  const at::Tensor s = (m - 1.0) / (m + 1.0);
  return exponent.to(at::kFloat) * kLn2 + (series(kLog, s * s) * s + s * 2.0);
}

std::pair<at::Tensor, at::Tensor> normal_pair(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor u = a.bitwise_right_shift(1).to(at::kFloat) * 0x1p-31 + 0x1p-32;
  // In double precision: the single one of some libraries is not correctly rounded.
  const at::Tensor radius = at::sqrt((natural_log(u) * -2.0).to(at::kDouble)).to(at::kFloat);
  const std::int64_t sign = std::int64_t{1} << 31;
  const at::Tensor fraction = (b * 4).bitwise_and_(kLow32).bitwise_xor_(sign).sub_(sign);
  const at::Tensor t = fraction.to(at::kFloat) * kQuarterTurn;
  const at::Tensor square = t * t;
  const at::Tensor sine = series(kSin, square) * t + t;
  const at::Tensor cosine = series(kCos, square) + 1.0;
  const at::Tensor quadrant = b.bitwise_right_shift(30);
  const at::Tensor swaps = quadrant.bitwise_and(1).to(at::kBool);
  const auto sign_of = [](const at::Tensor& twos) { return 1 - twos.bitwise_and(2); };
  return {at::where(swaps, sine, cosine) * radius * sign_of(quadrant + 1),
          at::where(swaps, cosine, sine) * radius * sign_of(quadrant)};
}

}  // namespace

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter,
                                    std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t p0 = std::uint64_t{kMultiplier0} * counter[0];
    const std::uint64_t p1 = std::uint64_t{kMultiplier1} * counter[2];
    counter = {
        static_cast<std::uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(p1),
        static_cast<std::uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(p0)};
    key = {key[0] + kWeyl0, key[1] + kWeyl1};
  }
  return counter;
}

at::Tensor philox_normal(std::uint64_t key, std::int64_t first, std::int64_t count,
                         std::int64_t columns, at::Device device) {
  if (!device.is_cpu()) return philox_normal_by_tensors(key, first, count, columns, device);
  at::Tensor result = at::empty({count, columns}, at::kFloat);
  float* const out = result.mutable_data_ptr<float>();
  at::parallel_for(0, count, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      fill_row(key, first + row, columns, out + row * columns);
    }
  });
  return result;
}

at::Tensor philox_normal_by_tensors(std::uint64_t key, std::int64_t first, std::int64_t count,
                                    std::int64_t columns, at::Device device) {
  const at::NoGradGuard no_grad;
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  const std::int64_t blocks = (columns + 3) / 4;
  const at::Tensor zero = at::zeros({count, blocks}, options);
  const Words words =
      philox_words({zero + at::arange(blocks, options),
                    zero + at::arange(first, first + count, options).unsqueeze(1), zero, zero},
                   key);
  const auto [z0, z1] = normal_pair(words[0], words[1]);
  const auto [z2, z3] = normal_pair(words[2], words[3]);
  return at::stack({z0, z1, z2, z3}, /*dim=*/-1)
      .view({count, 4 * blocks})
      .narrow(1, 0, columns)
      .contiguous();
}

}  // namespace drystone::tensors
