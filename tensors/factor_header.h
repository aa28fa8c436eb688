#pragma once
// What the header of a factor set says: its keys, its modules and their shapes.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/expected.h"
#include "tensors/safetensors.h"
#include "tensors/selector.h"

namespace drystone::tensors {

/// Value of the metadata key "format". A module is a pair of one rank ≥ 1,
///     <module>.lora_A.weight [rank, in],  <module>.lora_B.weight [out, rank],
/// of which one factor may stand as a selector instead (tensors/selector.h):
///     <module>.lora_A.index.<in>, <module>.lora_B.index.<out>  [rank] int32,
///     <module>.lora_A.value, <module>.lora_B.value  [rank], absent where all are 1.
/// Every other key is a dense part. All float32 but indices.
inline constexpr std::string_view kFactorsFormat = "drystone-factors-1";

/// The width of a selector over the outer size of the factor beside it is at most this, so that a
/// small file never claims more than so many times its bytes.
inline constexpr int64_t kMaxSelectorStretch = 64;
/// Whether a selector of this width may stand beside a factor whose outer size is `other`.
bool may_select(int64_t width, int64_t other);

struct FactorsShape {
  int64_t out = 0;
  int64_t in = 0;
  int64_t rank = 0;
  bool operator==(const FactorsShape&) const = default;
  int64_t width(Side side) const { return side == Side::A ? in : out; }
};

/// What a payload holds, read off its header.
struct FactorSetShapes {
  std::map<std::string, FactorsShape> modules;
  std::map<std::string, std::vector<int64_t>> dense;
  bool operator==(const FactorSetShapes&) const = default;
};

/// What an untrusted payload claims to hold, before any tensor is made. Refuses (PlanMismatch)
/// another format, another dtype, an A without its B, unequal ranks, rank 0, a factor in two forms,
/// two selectors in one module or one beyond kMaxSelectorStretch.
core::Expected<FactorSetShapes> describe(const SafetensorsHeader& header);

/// What `describe` does not see: the indices of all selectors lie within their widths. Refuses with
/// PlanMismatch, naming the tensor.
/// @param shapes  what `describe` made of `header`
core::Expected<void> check_selectors(const SafetensorsHeader& header, const FactorSetShapes& shapes,
                                     core::ByteView payload);

std::string a_key(std::string_view module);
std::string b_key(std::string_view module);
std::string weight_key(std::string_view module, Side side);
std::string index_key(std::string_view module, Side side, int64_t width);
std::string value_key(std::string_view module, Side side);

/// Whether a key is a factor's, in either form.
bool is_factor_key(std::string_view key);

}  // namespace drystone::tensors
