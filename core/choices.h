#pragma once
// The words that refuse what is none of a key's choices.

#include <span>
#include <string>

namespace drystone::core {

/// `"causal_lm" is not supported; did you mean "causal-lm"? supported: causal-lm, regression`, with
/// the question where a choice is near.
std::string not_supported(const std::string& given, std::span<const std::string> choices);

}  // namespace drystone::core
