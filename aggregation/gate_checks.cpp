#include "aggregation/gate_checks.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <set>
#include <string>
#include <string_view>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/ones.h>

#include "core/check.h"
#include "tensors/safetensors.h"

namespace drystone::aggregation {
namespace {

using core::Refusal;
using tensors::SafetensorsHeader;

std::string text_of(const std::vector<int64_t>& sizes) {
  std::string text = "[";
  for (const int64_t size : sizes) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

/// Whether one float32 among `count` has an exponent of all ones: infinity or NaN.
/// Branch-free with a fixed count, so that the compiler vectorises it without further flags.
template <std::size_t count>
bool has_non_finite(const std::uint8_t* bytes) {
  constexpr std::uint32_t kExponent = 0x7f800000;
  std::uint32_t found = 0;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, bytes + i * sizeof(bits), sizeof(bits));
    found |= (bits & kExponent) == kExponent ? 1U : 0U;
  }
  return found != 0;
}

/// A view where the alignment allows it.
at::Tensor float_tensor(const tensors::TensorInfo& info, core::ByteView bytes) {
  if (std::bit_cast<std::uintptr_t>(bytes.data()) % sizeof(float) != 0) {
    return tensors::copy_tensor(info, bytes);
  }
  return at::from_blob(const_cast<std::uint8_t*>(bytes.data()), info.shape, at::kFloat);
}

/// One factor as far as the norms of its components go: of a selector only its entries, [rank, 1]
/// or [1, rank].
at::Tensor entries_of(const SafetensorsHeader& header, core::ByteView payload,
                      const std::string& module, tensors::Side side, int64_t rank) {
  const auto find = [&](const std::string& key) {
    const auto found = header.tensors.find(key);
    if (found == header.tensors.end()) return at::Tensor();
    return float_tensor(found->second, tensors::tensor_bytes(header, found->second, payload));
  };
  if (const at::Tensor weight = find(tensors::weight_key(module, side)); weight.defined()) {
    return weight;
  }
  const at::Tensor value = find(tensors::value_key(module, side));
  return (value.defined() ? value : at::ones({rank})).unsqueeze(side == tensors::Side::A ? 1 : 0);
}

core::Expected<void> check_gauges(const SafetensorsHeader& header,
                                  const tensors::FactorSetShapes& shapes, core::ByteView payload) {
  for (const auto& [name, shape] : shapes.modules) {
    auto checked =
        check_gauge({.b = entries_of(header, payload, name, tensors::Side::B, shape.rank),
                     .a = entries_of(header, payload, name, tensors::Side::A, shape.rank)});
    if (!checked) {
      return core::refuse(checked.error().code,
                          name + ": " + checked.error().detail + kProbablyDiverged);
    }
  }
  return {};
}

/// NaN and infinity, tensor by tensor so that the refusal names one.
core::Expected<void> check_all_finite(const SafetensorsHeader& header, core::ByteView payload) {
  for (const auto& [key, info] : header.tensors) {
    if (info.dtype != at::ScalarType::Float) continue;  // indices
    auto checked = check_finite(tensors::tensor_bytes(header, info, payload));
    if (!checked) {
      return core::refuse(checked.error().code,
                          key + ": " + checked.error().detail + kProbablyDiverged);
    }
  }
  return {};
}

constexpr std::string_view kStatisticsScope = tensors::kStatistics.substr(0, 10);

/// Whose head an update must hold: the base's unless it is of members alone, and its members'.
std::set<std::string_view> scopes_of(const tensors::FactorSetShapes& shapes) {
  std::set<std::string_view> scopes;
  for (const auto& [name, shape] : shapes.modules) scopes.insert(tensors::scope_of(name));
  for (const auto& [name, shape] : shapes.dense) scopes.insert(tensors::scope_of(name));
  const bool has_members = std::ranges::any_of(
      scopes, [](std::string_view scope) { return scope.starts_with(tensors::kMember); });
  if (!has_members) scopes.insert(std::string_view());
  return scopes;
}

core::Expected<void> check_module(const std::string& name, const tensors::FactorsShape& shape,
                                  const AdapterLayout& plan, int64_t max_rank) {
  const auto planned = plan.modules.find(name);
  if (planned == plan.modules.end()) {
    return core::refuse(Refusal::PlanMismatch, name + ": the plan has no such module");
  }
  if (shape.out != planned->second.out || shape.in != planned->second.in) {
    return core::refuse(Refusal::PlanMismatch,
                        name + ": is " + text_of({shape.out, shape.in}) + ", the plan says " +
                            text_of({planned->second.out, planned->second.in}));
  }
  if (shape.rank > max_rank) {
    return core::refuse(Refusal::RankAboveQuota, name + ": rank " + std::to_string(shape.rank) +
                                                     ", at most " + std::to_string(max_rank) +
                                                     " granted");
  }
  return {};
}

}  // namespace

core::Expected<void> check_shapes(const tensors::FactorSetShapes& shapes, const AdapterLayout& plan,
                                  int64_t max_rank) {
  for (const auto& [name, shape] : shapes.modules) {
    auto checked = check_module(name, shape, plan, max_rank);
    if (!checked) return checked;
  }
  for (const auto& [name, shape] : shapes.dense) {
    const auto planned = plan.dense.find(name);
    if (planned == plan.dense.end()) {
      return core::refuse(Refusal::PlanMismatch, name + ": the plan has no such part");
    }
    if (shape != planned->second) {
      return core::refuse(Refusal::PlanMismatch, name + ": is " + text_of(shape) +
                                                     ", the plan says " + text_of(planned->second));
    }
  }
  const auto is_statistic = [](const auto& part) {
    return part.first.starts_with(tensors::kStatistics);
  };
  if (shapes.modules.empty() && !plan.modules.empty() &&
      std::ranges::none_of(shapes.dense, is_statistic)) {
    return core::refuse(Refusal::PlanMismatch, "holds no module");
  }
  const auto scopes = scopes_of(shapes);
  for (const auto& [name, shape] : plan.dense) {
    const std::string_view scope = tensors::scope_of(name);
    if (scope != kStatisticsScope && scopes.contains(scope) && !shapes.dense.contains(name)) {
      return core::refuse(Refusal::PlanMismatch, name + ": is in the plan, but not in the update");
    }
  }
  return {};
}

core::Expected<void> check_finite(core::ByteView values) {
  core::require(values.size() % sizeof(float) == 0, "check_finite: not a number of float32");
  constexpr std::size_t kBlock = 1024;
  constexpr std::size_t kBlockBytes = kBlock * sizeof(float);
  std::size_t position = 0;
  while (position + kBlockBytes <= values.size() &&
         !has_non_finite<kBlock>(values.data() + position)) {
    position += kBlockBytes;
  }
  for (; position < values.size(); position += sizeof(float)) {
    if (has_non_finite<1>(values.data() + position)) {
      return core::refuse(Refusal::NotFinite,
                          "NaN or infinity at element " + std::to_string(position / sizeof(float)));
    }
  }
  return {};
}

core::Expected<void> check_gauge(const tensors::Factors& factors) {
  const at::NoGradGuard no_grad;
  const at::Tensor b = at::linalg_vector_norm(factors.b, 2, {0}, /*keepdim=*/false, at::kDouble);
  const at::Tensor a = at::linalg_vector_norm(factors.a, 2, {1}, /*keepdim=*/false, at::kDouble);
  const double* b_norms = b.const_data_ptr<double>();
  const double* a_norms = a.const_data_ptr<double>();
  for (int64_t j = 0; j < factors.rank(); ++j) {
    const double balanced = std::sqrt(b_norms[j] * a_norms[j]);
    const double larger = std::max(b_norms[j], a_norms[j]);
    const bool is_good =
        balanced <= kMaxBalancedNorm && larger <= kMaxImbalance * std::max(1.0, balanced);
    if (!is_good) {  // also when a norm overflowed
      return core::refuse(Refusal::BadGauge, "component " + std::to_string(j) + " has norms " +
                                                 std::to_string(b_norms[j]) + " in B and " +
                                                 std::to_string(a_norms[j]) + " in A");
    }
  }
  return {};
}

core::Expected<void> check_payload(core::ByteView payload, const AdapterLayout& plan,
                                   int64_t max_rank) {
  const tensors::SafetensorsLimits limits = {.max_header_bytes = max_header_bytes(plan)};
  const auto header = tensors::parse_safetensors(payload, limits);
  if (!header) return tl::make_unexpected(header.error());
  const auto shapes = tensors::describe(*header);
  if (!shapes) return tl::make_unexpected(shapes.error());
  if (auto checked = check_shapes(*shapes, plan, max_rank); !checked) return checked;
  auto indices = tensors::check_selectors(*header, *shapes, payload);
  if (!indices) return indices;
  if (auto checked = check_all_finite(*header, payload); !checked) return checked;
  return check_gauges(*header, *shapes, payload);
}

}  // namespace drystone::aggregation
