#include "models/quantized/nf4.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include "core/check.h"

namespace drystone::models {
namespace {

constexpr std::int64_t kScaleBlock = 256;
constexpr float kTiny = 1e-38F;

constexpr std::array<float, 16> kValues = {-1.0F,
                                           -0.6961928009986877F,
                                           -0.5250730514526367F,
                                           -0.39491748809814453F,
                                           -0.28444138169288635F,
                                           -0.18477343022823334F,
                                           -0.09105003625154495F,
                                           0.0F,
                                           0.07958029955625534F,
                                           0.16093020141124725F,
                                           0.24611230194568634F,
                                           0.33791524171829224F,
                                           0.44070982933044434F,
                                           0.5626170039176941F,
                                           0.7229568362236023F,
                                           1.0F};

/// Between neighbours; a value on a border takes the lower code.
constexpr std::array<float, 15> borders_of(const std::array<float, 16>& values) {
  std::array<float, 15> borders{};
  for (std::size_t i = 0; i < borders.size(); ++i) borders[i] = (values[i] + values[i + 1]) / 2.0F;
  return borders;
}
constexpr std::array<float, 15> kBorders = borders_of(kValues);

std::uint8_t code_of(float scaled) {
  std::uint8_t code = 0;
  for (const float border : kBorders) code = static_cast<std::uint8_t>(code + (scaled > border));
  return code;
}

/// Value pairs by byte: high nibble first.
struct Pairs {
  std::array<std::array<float, 2>, 256> values{};
  constexpr Pairs() {
    for (std::size_t byte = 0; byte < values.size(); ++byte) {
      values[byte] = {kValues[byte >> 4], kValues[byte & 15]};
    }
  }
};
constexpr Pairs kPairs;

/// The signed dynamic 8-bit map (Dettmers et al., 2021, arXiv:2110.02861), ascending.
std::array<float, 256> make_dynamic_map() {
  std::vector<float> values = {0.0F, 1.0F};
  for (int exponent = 0; exponent < 7; ++exponent) {
    const std::int64_t count = std::int64_t{1} << exponent;
    const at::Tensor bounds = at::linspace(0.1, 1.0, count + 1, at::kFloat);
    const float* bound = bounds.const_data_ptr<float>();
    const auto scale = static_cast<float>(std::pow(10.0, exponent - 6));
    for (std::int64_t i = 0; i < count; ++i) {
      const float value = scale * ((bound[i] + bound[i + 1]) / 2.0F);
      values.push_back(value);
      values.push_back(-value);
    }
  }
  std::sort(values.begin(), values.end());
  std::array<float, 256> map{};
  std::copy(values.begin(), values.end(), map.begin());
  return map;
}

const std::array<float, 256>& dynamic_map() {
  static const std::array<float, 256> map = make_dynamic_map();
  return map;
}

std::uint8_t nearest_in_map(float value) {
  const auto& map = dynamic_map();
  const auto above = std::lower_bound(map.begin(), map.end(), value);
  if (above == map.begin()) return 0;
  if (above == map.end()) return 255;
  const auto below = above - 1;
  const bool takes_above = *above - value < value - *below;
  return static_cast<std::uint8_t>((takes_above ? above : below) - map.begin());
}

/// Without a copy: the table lives as long as the program.
template <std::size_t kSize>
at::Tensor table(const std::array<float, kSize>& values) {
  return at::from_blob(const_cast<float*>(values.data()), {static_cast<std::int64_t>(kSize)},
                       at::kFloat);
}

struct Block {
  float absmax = 0.0F;
  float inverse = 0.0F;
};

Block block_of(std::span<const float> values) {
  Block block;
  float poison = 0.0F;  // NaN as soon as a value is not finite
  for (const float value : values) {
    block.absmax = std::max(block.absmax, std::abs(value));
    poison += value * 0.0F;
  }
  block.absmax += poison;
  block.inverse = 1.0F / std::max(block.absmax, kTiny);
  return block;
}

}  // namespace

Nf4Weight::Nf4Weight(const at::Tensor& weight, const Nf4Options& options)
    : QuantizedWeight(weight.size(0), weight.dim() == 2 ? weight.size(1) : 0),
      block_size_(options.block_size) {
  core::require(weight.dim() == 2 && weight.is_floating_point() && weight.device().is_cpu(),
                "NF4: a weight is a floating [out, in] matrix on the CPU");
  const bool is_power =
      block_size_ >= 32 && block_size_ <= 4096 && (block_size_ & (block_size_ - 1)) == 0;
  core::require(is_power, "NF4: the block size is a power of two from 32 to 4096");
  const at::NoGradGuard no_grad;
  const std::int64_t count = weight.numel();
  const std::int64_t blocks = (count + block_size_ - 1) / block_size_;
  codes_ = at::zeros({(count + 1) / 2}, at::kByte);
  at::Tensor absmax = at::empty({blocks}, at::kFloat);
  auto* const codes = codes_.mutable_data_ptr<std::uint8_t>();
  auto* const maxima = absmax.mutable_data_ptr<float>();

  // Runs of whole blocks, so that no float32 copy of the whole weight is made.
  const at::Tensor flat = weight.contiguous().view(-1);
  constexpr std::int64_t kRun = 1 << 20;  // a multiple of every block size
  for (std::int64_t begin = 0; begin < count; begin += kRun) {
    const std::int64_t length = std::min(kRun, count - begin);
    const at::Tensor run = flat.narrow(0, begin, length).to(at::kFloat).contiguous();
    const float* const values = run.const_data_ptr<float>();
    const std::int64_t run_blocks = (length + block_size_ - 1) / block_size_;
    at::parallel_for(0, run_blocks, 256, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t b = first; b < last; ++b) {
        const std::int64_t start = b * block_size_;
        const std::int64_t size = std::min(block_size_, length - start);
        const Block block = block_of({values + start, static_cast<std::size_t>(size)});
        maxima[begin / block_size_ + b] = block.absmax;
        for (std::int64_t i = 0; i < size; ++i) {
          const float scaled = std::clamp(values[start + i] * block.inverse, -1.0F, 1.0F);
          const std::int64_t element = begin + start + i;
          const int shift = element % 2 == 0 ? 4 : 0;
          codes[element / 2] =
              static_cast<std::uint8_t>(codes[element / 2] | (code_of(scaled) << shift));
        }
        if (size % 2 == 1) {  // the padding nibble holds the code of 0
          const std::int64_t element = begin + start + size;
          codes[element / 2] = static_cast<std::uint8_t>(codes[element / 2] | code_of(0.0F));
        }
      }
    });
  }
  for (std::int64_t b = 0; b < blocks; ++b) {
    core::require(std::isfinite(maxima[b]), "NF4: the weight is not finite");
  }
  values_ = table(kValues);
  if (options.double_quantization) map_ = table(dynamic_map());
  set_scales(absmax, options.double_quantization);
}

void Nf4Weight::set_scales(const at::Tensor& absmax, bool double_quantization) {
  if (!double_quantization) {
    absmax_ = absmax;
    return;
  }
  absmax_offset_ = absmax.mean().item<float>();
  const at::Tensor centred = absmax - absmax_offset_;
  const std::int64_t blocks = absmax.numel();
  const std::int64_t groups = (blocks + kScaleBlock - 1) / kScaleBlock;
  absmax_codes_ = at::empty({blocks}, at::kByte);
  absmax_scales_ = at::empty({groups}, at::kFloat);
  const float* const values = centred.const_data_ptr<float>();
  auto* const codes = absmax_codes_.mutable_data_ptr<std::uint8_t>();
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t begin = g * kScaleBlock;
    const std::int64_t size = std::min(kScaleBlock, blocks - begin);
    const Block block = block_of({values + begin, static_cast<std::size_t>(size)});
    absmax_scales_.mutable_data_ptr<float>()[g] = block.absmax;
    for (std::int64_t i = 0; i < size; ++i) {
      codes[begin + i] = nearest_in_map(values[begin + i] * block.inverse);
    }
  }
}

std::int64_t Nf4Weight::num_bytes() const {
  std::int64_t bytes = static_cast<std::int64_t>(sizeof(absmax_offset_));
  for (const at::Tensor& part : {codes_, absmax_, absmax_codes_, absmax_scales_}) {
    if (part.defined()) bytes += static_cast<std::int64_t>(part.nbytes());
  }
  return bytes;
}

at::Tensor Nf4Weight::scales() const {
  if (absmax_.defined()) return absmax_;
  const std::int64_t blocks = absmax_codes_.numel();
  const at::Tensor scale = absmax_scales_.repeat_interleave(kScaleBlock).narrow(0, 0, blocks);
  return map_.index_select(0, absmax_codes_.to(at::kInt)) * scale + absmax_offset_;
}

QuantizedPtr Nf4Weight::to(at::Device device) const {
  auto copy = c10::make_intrusive<Nf4Weight>(*this);
  for (at::Tensor* part : {&copy->codes_, &copy->absmax_, &copy->absmax_codes_,
                           &copy->absmax_scales_, &copy->values_, &copy->map_}) {
    if (part->defined()) *part = part->to(device);
  }
  return copy;
}

namespace {

/// Elements [first, first + count) of the flattened matrix on the CPU.
void decode(const std::uint8_t* codes, const float* scales, std::int64_t block_size,
            std::int64_t first, std::int64_t count, float* target) {
  const std::int64_t end = first + count;
  for (std::int64_t element = first; element < end;) {
    const float scale = scales[element / block_size];
    const std::int64_t stop = std::min(end, (element / block_size + 1) * block_size);
    if (element % 2 == 1) *target++ = kValues[codes[element++ / 2] & 15] * scale;
    for (; element + 1 < stop; element += 2, target += 2) {
      const auto& pair = kPairs.values[codes[element / 2]];
      target[0] = pair[0] * scale;
      target[1] = pair[1] * scale;
    }
    if (element < stop) *target++ = kValues[codes[element++ / 2] >> 4] * scale;
  }
}

/// The same by tensor operations, for other devices.
at::Tensor decode_on_device(const at::Tensor& codes, const at::Tensor& values,
                            const at::Tensor& scales, std::int64_t block_size, std::int64_t first,
                            std::int64_t count) {
  const std::int64_t begin = first / 2;
  const std::int64_t bytes = (first + count + 1) / 2 - begin;
  const at::Tensor packed = codes.narrow(0, begin, bytes);
  const at::Tensor nibbles = at::stack({packed.bitwise_right_shift(4), packed.bitwise_and(15)}, 1)
                                 .view(-1)
                                 .narrow(0, first % 2, count);
  const std::int64_t first_block = first / block_size;
  const std::int64_t blocks = (first + count + block_size - 1) / block_size - first_block;
  const at::Tensor scale = scales.narrow(0, first_block, blocks)
                               .repeat_interleave(block_size)
                               .narrow(0, first % block_size, count);
  return values.index_select(0, nibbles.to(at::kInt)) * scale;
}

}  // namespace

void Nf4Weight::dequantize_rows(std::int64_t first, const at::Tensor& scales,
                                at::Tensor& target) const {
  const std::int64_t in = in_features();
  const std::int64_t count = target.size(0);
  if (!device().is_cpu()) {
    target.view(-1).copy_(
        decode_on_device(codes_, values_, scales, block_size_, first * in, count * in));
    return;
  }
  const auto* const codes = codes_.const_data_ptr<std::uint8_t>();
  const float* const scale = scales.const_data_ptr<float>();
  float* const values = target.mutable_data_ptr<float>();
  at::parallel_for(0, count, 16, [&](std::int64_t begin, std::int64_t end) {
    decode(codes, scale, block_size_, (first + begin) * in, (end - begin) * in,
           values + begin * in);
  });
}

}  // namespace drystone::models
