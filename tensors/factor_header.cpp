#include "tensors/factor_header.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace drystone::tensors {

namespace {

using core::Refusal;

constexpr std::string_view kFactor = ".lora_";  // then A or B, a dot, and the part
constexpr std::string_view kWeight = "weight";
constexpr std::string_view kIndex = "index.";
constexpr std::string_view kValue = "value";

enum class Part { Weight, Index, Value };

struct FactorKey {
  std::string module;
  Side side = Side::A;
  Part part = Part::Weight;
  std::int32_t width = 0;  ///< of an index
};

std::string key_of(std::string_view module, Side side, std::string_view part) {
  std::string key(module);
  key += kFactor;
  key += side == Side::A ? "A." : "B.";
  key += part;
  return key;
}

/// A width as std::to_string writes it, and no other text.
std::optional<std::int32_t> width_from(std::string_view text) {
  std::int32_t width = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), width);
  const bool is_whole = error == std::errc() && end == text.data() + text.size();
  if (!is_whole || width < 1 || text.front() == '0') return std::nullopt;
  return width;
}

std::optional<FactorKey> parse_key(std::string_view key) {
  const std::size_t at = key.rfind(kFactor);
  if (at == std::string_view::npos || key.size() < at + kFactor.size() + 2) return std::nullopt;
  const std::string_view side = key.substr(at + kFactor.size(), 2);
  const std::string_view part = key.substr(at + kFactor.size() + 2);
  if (side != "A." && side != "B.") return std::nullopt;
  FactorKey parsed = {.module = std::string(key.substr(0, at)),
                      .side = side == "A." ? Side::A : Side::B};
  if (part == kWeight) return parsed;
  if (part == kValue) {
    parsed.part = Part::Value;
    return parsed;
  }
  if (!part.starts_with(kIndex)) return std::nullopt;
  const auto width = width_from(part.substr(kIndex.size()));
  if (!width) return std::nullopt;
  parsed.part = Part::Index;
  parsed.width = *width;
  return parsed;
}

/// The tensors of one factor, in whichever form.
struct FactorClaim {
  const TensorInfo* weight = nullptr;
  const TensorInfo* index = nullptr;
  const TensorInfo* value = nullptr;
  std::int32_t width = 0;

  bool is_there() const { return weight != nullptr || index != nullptr || value != nullptr; }
};

struct ModuleClaim {
  FactorClaim a;
  FactorClaim b;
};

struct FactorSize {
  int64_t rank = 0;
  int64_t width = 0;
};

core::Failure mismatch(std::string detail) {
  return {Refusal::PlanMismatch, "factor set: " + std::move(detail)};
}

/// Nothing for what is no factor in exactly one form.
std::optional<FactorSize> size_of(const FactorClaim& claim, Side side) {
  if (claim.weight != nullptr) {
    const std::vector<int64_t>& shape = claim.weight->shape;
    if (claim.index != nullptr || claim.value != nullptr || shape.size() != 2) return std::nullopt;
    return side == Side::A ? FactorSize{.rank = shape[0], .width = shape[1]}
                           : FactorSize{.rank = shape[1], .width = shape[0]};
  }
  if (claim.index == nullptr || claim.index->shape.size() != 1) return std::nullopt;
  if (claim.value != nullptr && claim.value->shape != claim.index->shape) return std::nullopt;
  return FactorSize{.rank = claim.index->shape[0], .width = claim.width};
}

core::Expected<FactorsShape> module_shape(const std::string& module, const ModuleClaim& claim) {
  if (!claim.a.is_there() || !claim.b.is_there()) {
    const bool has_a = claim.a.is_there();
    return tl::make_unexpected(
        mismatch("'" + module + "' has " + (has_a ? "A without B" : "B without A")));
  }
  const auto a = size_of(claim.a, Side::A);
  const auto b = size_of(claim.b, Side::B);
  if (!a || !b || a->rank != b->rank || a->rank < 1 || a->width < 1 || b->width < 1) {
    return tl::make_unexpected(
        mismatch("'" + module + "' is no B [out, r], A [r, in] with r >= 1"));
  }
  if (claim.a.index != nullptr && claim.b.index != nullptr) {
    return tl::make_unexpected(mismatch("'" + module + "' has two selectors, one is allowed"));
  }
  if ((claim.a.index != nullptr && !may_select(a->width, b->width)) ||
      (claim.b.index != nullptr && !may_select(b->width, a->width))) {
    return tl::make_unexpected(mismatch("'" + module + "' has a selector more than " +
                                        std::to_string(kMaxSelectorStretch) +
                                        " times as wide as the factor beside it"));
  }
  return FactorsShape{.out = b->width, .in = a->width, .rank = a->rank};
}

/// Enters one tensor under its module; refuses a second index and another dtype.
core::Expected<void> add_claim(std::map<std::string, ModuleClaim>& modules, const FactorKey& key,
                               const std::string& name, const TensorInfo& info) {
  if (key.module.empty()) return tl::make_unexpected(mismatch("'" + name + "' names no module"));
  const bool is_index = key.part == Part::Index;
  if (info.dtype != (is_index ? at::ScalarType::Int : at::ScalarType::Float)) {
    return tl::make_unexpected(
        mismatch("'" + name + "' is not " + (is_index ? "int32" : "float32")));
  }
  ModuleClaim& module = modules[key.module];
  FactorClaim& claim = key.side == Side::A ? module.a : module.b;
  switch (key.part) {
    case Part::Weight: claim.weight = &info; break;
    case Part::Value: claim.value = &info; break;
    case Part::Index:
      if (claim.index != nullptr) {
        return tl::make_unexpected(mismatch("'" + name + "' is a second selector"));
      }
      claim.index = &info;
      claim.width = key.width;
      break;
  }
  return {};
}

}  // namespace

std::string a_key(std::string_view module) { return weight_key(module, Side::A); }

std::string b_key(std::string_view module) { return weight_key(module, Side::B); }

std::string weight_key(std::string_view module, Side side) { return key_of(module, side, kWeight); }

std::string index_key(std::string_view module, Side side, int64_t width) {
  return key_of(module, side, std::string(kIndex) + std::to_string(width));
}

std::string value_key(std::string_view module, Side side) { return key_of(module, side, kValue); }

bool may_select(int64_t width, int64_t other) { return width <= kMaxSelectorStretch * other; }

bool is_factor_key(std::string_view key) { return parse_key(key).has_value(); }

core::Expected<FactorSetShapes> describe(const SafetensorsHeader& header) {
  const auto format = header.metadata.find("format");
  if (format == header.metadata.end() || format->second != kFactorsFormat) {
    return tl::make_unexpected(
        mismatch("the metadata does not say format " + std::string(kFactorsFormat)));
  }
  FactorSetShapes shapes;
  std::map<std::string, ModuleClaim> modules;
  for (const auto& [name, info] : header.tensors) {
    if (const auto key = parse_key(name)) {
      const auto added = add_claim(modules, *key, name, info);
      if (!added) return tl::make_unexpected(added.error());
    } else if (info.dtype != at::ScalarType::Float) {
      return tl::make_unexpected(mismatch("'" + name + "' is not float32"));
    } else {
      shapes.dense.emplace(name, info.shape);
    }
  }
  for (const auto& [module, claim] : modules) {
    const auto shape = module_shape(module, claim);
    if (!shape) return tl::make_unexpected(shape.error());
    shapes.modules.emplace(module, *shape);
  }
  return shapes;
}

core::Expected<void> check_selectors(const SafetensorsHeader& header, const FactorSetShapes& shapes,
                                     core::ByteView payload) {
  for (const auto& [module, shape] : shapes.modules) {
    for (const Side side : {Side::A, Side::B}) {
      const auto index = header.tensors.find(index_key(module, side, shape.width(side)));
      if (index == header.tensors.end()) continue;
      const auto checked =
          check_index(tensor_bytes(header, index->second, payload), shape.width(side));
      if (!checked) {
        return core::refuse(checked.error().code,
                            "factor set: '" + index->first + "' " + checked.error().detail);
      }
    }
  }
  return {};
}

}  // namespace drystone::tensors
