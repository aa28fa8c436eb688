#include "tensors/member_names.h"

#include <charconv>

namespace drystone::tensors {

namespace {

constexpr std::size_t kMostDigits = 6;

/// Digits without a leading zero.
std::optional<std::int64_t> parse_member(std::string_view digits) {
  if (digits.empty() || digits.size() > kMostDigits) return std::nullopt;
  if (digits.size() > 1 && digits.front() == '0') return std::nullopt;
  std::int64_t member = 0;
  const char* const end = digits.data() + digits.size();
  const auto [stopped, error] = std::from_chars(digits.data(), end, member);
  if (error != std::errc() || stopped != end || member < 0) return std::nullopt;
  return member;
}

}  // namespace

std::string member_name(std::int64_t member, std::string_view name) {
  return std::string(kMember) + std::to_string(member) + "/" + std::string(name);
}

std::optional<MemberName> split_member(std::string_view full_name) {
  if (!full_name.starts_with(kMember)) return std::nullopt;
  const std::string_view rest = full_name.substr(kMember.size());
  const std::size_t slash = rest.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const auto member = parse_member(rest.substr(0, slash));
  if (!member) return std::nullopt;
  return MemberName{.member = *member, .name = rest.substr(slash + 1)};
}

std::optional<std::string> statistic_name(std::string_view full_name) {
  if (!full_name.starts_with(kStatistics)) return std::nullopt;
  return std::string(full_name.substr(kStatistics.size()));
}

SplitSet split_members(const FactorSet& factors) {
  SplitSet split;
  for (const auto& [full_name, pair] : factors.modules) {
    const auto name = split_member(full_name);
    if (name) {
      split.members[name->member].modules.emplace(name->name, pair);
    } else {
      split.shared.modules.emplace(full_name, pair);
    }
  }
  for (const auto& [full_name, tensor] : factors.dense) {
    const auto name = split_member(full_name);
    if (name) {
      split.members[name->member].dense.emplace(name->name, tensor);
    } else {
      split.shared.dense.emplace(full_name, tensor);
    }
  }
  return split;
}

void add_member(FactorSet& set, std::int64_t member, const FactorSet& parts) {
  for (const auto& [name, pair] : parts.modules) {
    set.modules.insert_or_assign(member_name(member, name), pair);
  }
  for (const auto& [name, tensor] : parts.dense) {
    set.dense.insert_or_assign(member_name(member, name), tensor);
  }
}

}  // namespace drystone::tensors
