#pragma once
// The tables rank_pattern and alpha_pattern of a PEFT adapter: from modules' names to numbers.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tensors/name_regex.h"

namespace drystone::tensors {

/// Patterns as PEFT's get_pattern_key takes them: the first one for which Python's
/// re.match(rf"(.*\.)?({pattern})$", name) holds counts. Plain names, which is what nearly all of
/// them are, are compared; others run in PCRE2 (the engine alone has none and refuses them). All
/// look-ups of one table share a budget of steps, so a hostile pattern ends in an error. One thread
/// at a time.
class NamePatterns {
 public:
  static constexpr std::size_t kMostPatterns = 10'000;  ///< that are not one whole name

  /// @throws core::ConfigError  too many of them, or not a regular expression
  explicit NamePatterns(std::vector<std::pair<std::string, double>> patterns);
  ~NamePatterns();
  NamePatterns(NamePatterns&&) noexcept;
  NamePatterns& operator=(NamePatterns&&) noexcept;

  /// @throws core::ConfigError  a pattern takes too many steps
  std::optional<double> find(std::string_view name) const;

 private:
  struct Pattern;

  std::unordered_map<std::string, std::pair<std::size_t, double>> whole_names_;  ///< with its place
  std::vector<Pattern> others_;
  mutable StepBudget budget_;
};

}  // namespace drystone::tensors
