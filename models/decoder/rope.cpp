#include "models/decoder/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/check.h"
#include "models/device.h"

namespace drystone::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// theta^(2i / rotated), [rotated / 2].
at::Tensor wave_lengths(double theta, std::int64_t rotated) {
  const at::Tensor exponents =
      at::arange(0, rotated, 2, at::kLong).to(at::kFloat) / static_cast<double>(rotated);
  return at::pow(at::Scalar(theta), exponents);
}

at::Tensor dynamic(const RopeConfig& rope, std::int64_t length) {
  const auto trained = static_cast<double>(rope.max_positions);
  const double longest = std::max(static_cast<double>(length), trained);
  const auto size = static_cast<double>(rope.rotated);
  const double stretch = (rope.factor * longest / trained) - (rope.factor - 1.0);
  return wave_lengths(rope.theta * std::pow(stretch, size / (size - 2.0)), rope.rotated)
      .reciprocal();
}

at::Tensor llama3(const RopeConfig& rope) {
  const auto trained = static_cast<double>(rope.original_positions);
  const at::Tensor plain = wave_lengths(rope.theta, rope.rotated).reciprocal();
  const at::Tensor waves = plain.reciprocal() * (2.0 * std::numbers::pi);
  const at::Tensor slow = waves > trained / rope.low_freq_factor;
  const at::Tensor fast = waves < trained / rope.high_freq_factor;
  const at::Tensor scaled = at::where(slow, plain / rope.factor, plain);
  const at::Tensor smooth = (waves.reciprocal() * trained - rope.low_freq_factor) /
                            (rope.high_freq_factor - rope.low_freq_factor);
  const at::Tensor between = (1.0 - smooth) * scaled / rope.factor + smooth * scaled;
  return at::where(slow.logical_or(fast), scaled, between);
}

at::Tensor yarn(const RopeConfig& rope) {
  const auto size = static_cast<double>(rope.rotated);
  const auto dimension = [&](double rotations) {
    return size *
           std::log(static_cast<double>(rope.original_positions) /
                    (rotations * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(rope.theta));
  };
  double low = dimension(rope.beta_fast);
  double high = dimension(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, size - 1.0);
  if (low == high) high += 0.001;
  const at::Tensor ramp =
      ((at::arange(rope.rotated / 2, at::kFloat) - low) / (high - low)).clamp(0.0, 1.0);
  const at::Tensor kept = 1.0 - ramp;
  const at::Tensor waves = wave_lengths(rope.theta, rope.rotated);
  return (rope.factor * waves).reciprocal() * (1.0 - kept) + waves.reciprocal() * kept;
}

at::Tensor longrope(const RopeConfig& rope, std::int64_t length) {
  const auto& factors = length > rope.original_positions ? rope.long_factor : rope.short_factor;
  return (at::tensor(factors, at::kFloat) * wave_lengths(rope.theta, rope.rotated)).reciprocal();
}

/// x's halves of the rotated part, and what passes.
struct Parts {
  at::Tensor first, second, rest;

  Parts(const at::Tensor& x, std::int64_t half)
      : first(x.narrow(-1, 0, half)),
        second(x.narrow(-1, half, half)),
        rest(x.narrow(-1, 2 * half, x.size(-1) - 2 * half)) {}
};

/// Turns by the angles, or back: the backward pass is the rotation by −angle.
at::Tensor turned(const at::Tensor& x, const Angles& angles, bool back) {
  const at::NoGradGuard no_grad;
  const at::ScalarType inside = angles.cos.scalar_type();
  if (x.scalar_type() != inside) return turned(x.to(inside), angles, back).to(x.scalar_type());
  at::Tensor out = at::empty(x.sizes(), x.options());
  const std::int64_t half = angles.cos.size(-1);
  const Parts in(x, half);
  Parts result(out, half);
  const double sign = back ? -1.0 : 1.0;
  result.first.copy_(in.first).mul_(angles.cos).addcmul_(in.second, angles.sin, -sign);
  result.second.copy_(in.second).mul_(angles.cos).addcmul_(in.first, angles.sin, sign);
  if (result.rest.size(-1) > 0) result.rest.copy_(in.rest);
  return out;
}

class Rotation final : public torch::autograd::Function<Rotation> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& cos,
                            const at::Tensor& sin) {
    context->save_for_backward({cos, sin});
    return turned(x, {cos, sin}, /*back=*/false);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    return {turned(grads[0], {saved[0], saved[1]}, /*back=*/true), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor inverse_frequencies(const RopeConfig& rope, std::int64_t length) {
  switch (rope.kind) {
    case RopeKind::Default: return wave_lengths(rope.theta, rope.rotated).reciprocal();
    case RopeKind::Linear: return wave_lengths(rope.theta, rope.rotated).reciprocal() / rope.factor;
    case RopeKind::Dynamic: return dynamic(rope, length);
    case RopeKind::Llama3: return llama3(rope);
    case RopeKind::Yarn: return yarn(rope);
    case RopeKind::LongRope: return longrope(rope, length);
  }
  core::ensure(false, "rope: unknown kind");
  return {};
}

Angles angles(const RopeConfig& rope, const at::Tensor& positions, const std::vector<TextRun>& runs,
              at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  at::Tensor frequencies;
  if (rope.depends_on_length()) {
    std::vector<at::Tensor> blocks;
    for (const TextRun& run : runs) {
      blocks.push_back(
          inverse_frequencies(rope, run.length).expand({run.num_tokens, rope.rotated / 2}));
    }
    frequencies = at::cat(blocks);
  } else {
    frequencies = inverse_frequencies(rope, 0).unsqueeze(0);
  }
  const at::Tensor turns =
      positions.to(at::kFloat).unsqueeze(1) * send(frequencies, positions.device());
  const auto finish = [&](const at::Tensor& x) {
    return (x * rope.attention_factor).to(dtype).unsqueeze(1);
  };
  return {.cos = finish(turns.cos()), .sin = finish(turns.sin())};
}

Angles angles(const RopeConfig& rope, const Packing& packing, at::ScalarType dtype) {
  std::vector<TextRun> runs;
  for (std::int64_t row = 0; row < packing.rows(); ++row) {
    runs.push_back({.num_tokens = packing.length(row), .length = packing.length(row)});
  }
  return angles(rope, packing.positions, runs, dtype);
}

at::Tensor rotate(const at::Tensor& x, const Angles& angles) {
  return at::GradMode::is_enabled() && x.requires_grad()
             ? Rotation::apply(x, angles.cos, angles.sin)
             : turned(x, angles, /*back=*/false);
}

}  // namespace drystone::models
