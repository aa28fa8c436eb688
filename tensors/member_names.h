#pragma once
// How an update or version names what is not the shared model's: an ensemble's members,
// "member-<k>/<name>", and what a method collects beside the model, "statistics/<name>".

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "tensors/factors.h"

namespace drystone::tensors {

/// "member-3/encoder.layer.0.query": of member 3, counted from 0.
std::string member_name(std::int64_t member, std::string_view name);

struct MemberName {
  std::int64_t member = 0;
  std::string_view name;  ///< of the module or dense part; a view of what was split
};

/// The reverse; nullopt: a name of the base that all members share.
std::optional<MemberName> split_member(std::string_view full_name);

/// "scores" of "statistics/scores"; nullopt: no statistic.
std::optional<std::string> statistic_name(std::string_view full_name);

struct SplitSet {
  FactorSet shared;
  std::map<std::int64_t, FactorSet> members;  ///< under their own names
};

/// Sorts a set's parts by whom they belong to; tensors are shared.
SplitSet split_members(const FactorSet& factors);

/// Puts one member's parts into a set.
void add_member(FactorSet& set, std::int64_t member, const FactorSet& parts);

}  // namespace drystone::tensors
