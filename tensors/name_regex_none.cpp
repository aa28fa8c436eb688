// The engine alone links no regular expressions: those that need them are refused.
#include "core/error.h"
#include "core/shorten.h"
#include "core/text.h"
#include "tensors/name_regex.h"

namespace drystone::tensors {

class NameRegex::Code {};

NameRegex::NameRegex(std::string pattern) {
  throw core::ConfigError("the pattern " + core::shorten(core::quote(pattern), 200) +
                          " is a regular expression, which this build has none of; write plain "
                          "names, or build without DRYSTONE_ENGINE_ONLY");
}
NameRegex::~NameRegex() = default;
NameRegex::NameRegex(NameRegex&&) noexcept = default;
NameRegex& NameRegex::operator=(NameRegex&&) noexcept = default;

bool NameRegex::matches(std::string_view, StepBudget&) const { return false; }

}  // namespace drystone::tensors
