#include "tensors/selector.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "core/check.h"

namespace drystone::tensors {

namespace {

/// [rank, width], a view.
at::Tensor by_component(const at::Tensor& factor, Side side) {
  return side == Side::A ? factor : factor.t();
}

bool is_positive_zero(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits == 0;
}

/// Where the only entry of `width` numbers is; −1 where there is none or a second one.
int64_t only_entry(const float* component, int64_t width, int64_t stride) {
  int64_t found = -1;
  for (int64_t i = 0; i < width; ++i) {
    if (is_positive_zero(component[i * stride])) continue;
    if (found >= 0) return -1;
    found = i;
  }
  return found;
}

}  // namespace

std::optional<Selector> selector_of(const at::Tensor& factor, Side side) {
  const at::NoGradGuard no_grad;
  const at::Tensor rows = by_component(factor, side);
  const int64_t rank = rows.size(0);
  if (rank == 0 || rows.size(1) > std::numeric_limits<std::int32_t>::max()) return std::nullopt;
  Selector selector = {.index = at::empty({rank}, at::kInt),
                       .value = at::empty({rank}, at::kFloat)};
  std::int32_t* index = selector.index.mutable_data_ptr<std::int32_t>();
  float* value = selector.value.mutable_data_ptr<float>();
  const float* data = rows.const_data_ptr<float>();
  for (int64_t i = 0; i < rank; ++i) {
    const float* component = data + i * rows.stride(0);
    const int64_t entry = only_entry(component, rows.size(1), rows.stride(1));
    if (entry < 0) return std::nullopt;
    index[i] = static_cast<std::int32_t>(entry);
    value[i] = component[entry * rows.stride(1)];
  }
  if (std::all_of(value, value + rank, [](float entry) { return entry == 1.0F; })) {
    selector.value.reset();
  }
  return selector;
}

core::Expected<void> check_index(core::ByteView index, int64_t width) {
  core::require(index.size() % sizeof(std::int32_t) == 0, "check_index: not a number of int32");
  for (std::size_t at = 0; at < index.size(); at += sizeof(std::int32_t)) {
    std::int32_t entry = 0;
    std::memcpy(&entry, index.data() + at, sizeof entry);
    if (entry < 0 || entry >= width) {
      return core::refuse(core::Refusal::PlanMismatch,
                          "has index " + std::to_string(entry) + " at element " +
                              std::to_string(at / sizeof entry) + ", the factor's width is " +
                              std::to_string(width));
    }
  }
  return {};
}

at::Tensor dense_factor(const Selector& selector, Side side, int64_t width) {
  const at::NoGradGuard no_grad;
  const int64_t rank = selector.index.size(0);
  at::Tensor factor =
      side == Side::A ? at::zeros({rank, width}, at::kFloat) : at::zeros({width, rank}, at::kFloat);
  const at::Tensor rows = by_component(factor, side);
  const std::int32_t* index = selector.index.const_data_ptr<std::int32_t>();
  const float* value = selector.value.defined() ? selector.value.const_data_ptr<float>() : nullptr;
  float* data = factor.mutable_data_ptr<float>();
  for (int64_t i = 0; i < rank; ++i) {
    core::require(index[i] >= 0 && index[i] < width, "dense_factor: an index beyond the width");
    data[i * rows.stride(0) + index[i] * rows.stride(1)] = value != nullptr ? value[i] : 1.0F;
  }
  return factor;
}

}  // namespace drystone::tensors
