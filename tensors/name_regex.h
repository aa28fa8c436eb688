#pragma once
// Internal to tensors: one regular expression on modules' names, with bounds on what it costs.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace drystone::tensors {

/// Steps that are left to all patterns of a table.
struct StepBudget {
  std::int64_t left = std::int64_t{1} << 29;
};

class NameRegex {
 public:
  /// @throws core::ConfigError  not a regular expression, too long or too deep
  explicit NameRegex(std::string pattern);
  ~NameRegex();
  NameRegex(NameRegex&&) noexcept;
  NameRegex& operator=(NameRegex&&) noexcept;

  /// Whether the whole name, or what follows one of its dots, is such.
  /// @throws core::ConfigError  it takes too many steps
  bool matches(std::string_view name, StepBudget& budget) const;

 private:
  class Code;
  std::unique_ptr<const Code> code_;
};

}  // namespace drystone::tensors
