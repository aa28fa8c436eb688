#include "aggregation/version_checks.h"

#include <string>

#include "aggregation/gate_checks.h"
#include "tensors/factor_header.h"
#include "tensors/pruning.h"
#include "tensors/safetensors.h"

namespace drystone::aggregation {
namespace {

using core::Refusal;

core::Expected<void> check_parts(const tensors::FactorSetShapes& shapes,
                                 const AdapterLayout& layout, int64_t max_rank) {
  for (const auto& [name, shape] : shapes.modules) {
    const auto known = layout.modules.find(name);
    if (known == layout.modules.end() ||
        known->second != ModuleLayout{.out = shape.out, .in = shape.in}) {
      return core::refuse(Refusal::PlanMismatch,
                          name + ": no module of this name and shape is adapted here");
    }
    const int64_t most = version_rank(known->second, max_rank);
    if (shape.rank > most) {
      return core::refuse(Refusal::RankAboveQuota, name + ": rank " + std::to_string(shape.rank) +
                                                       ", at most " + std::to_string(most));
    }
  }
  for (const auto& [name, shape] : shapes.dense) {
    const auto known = layout.dense.find(name);
    if (known == layout.dense.end() || known->second != shape) {
      return core::refuse(Refusal::PlanMismatch, name + ": no part of this name and shape is here");
    }
  }
  return {};
}

}  // namespace

AdapterLayout version_layout(AdapterLayout layout) {
  const at::Tensor plan = tensors::to_tensor(tensors::PruningPlan{});
  layout.dense[std::string(tensors::kStatistics) + std::string(tensors::kPruningPlan)] =
      plan.sizes().vec();
  return layout;
}

core::Expected<void> check_version(core::ByteView payload, const AdapterLayout& layout,
                                   int64_t max_rank) {
  const tensors::SafetensorsLimits limits = {.max_header_bytes = max_header_bytes(layout)};
  const auto header = tensors::parse_safetensors(payload, limits);
  if (!header) return tl::make_unexpected(header.error());
  const auto shapes = tensors::describe(*header);
  if (!shapes) return tl::make_unexpected(shapes.error());
  if (auto checked = check_parts(*shapes, layout, max_rank); !checked) return checked;
  if (auto checked = tensors::check_selectors(*header, *shapes, payload); !checked) return checked;
  for (const auto& [key, info] : header->tensors) {
    if (info.dtype != at::ScalarType::Float) continue;  // indices
    const auto checked = check_finite(tensors::tensor_bytes(*header, info, payload));
    if (!checked) return core::refuse(checked.error().code, key + ": " + checked.error().detail);
  }
  return {};
}

}  // namespace drystone::aggregation
