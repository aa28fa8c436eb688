#pragma once
// The words that refuse what is none of a key's choices.

#include <span>
#include <string>
#include <string_view>

namespace drystone::core {

/// `did you mean "lora"? ` where a choice is near, in whatever case; otherwise empty. Choices are
/// in lower case.
std::string did_you_mean(std::string_view given, std::span<const std::string> choices);

/// `"causal_lm" is not supported; did you mean "causal-lm"? supported: causal-lm, regression`, with
/// the question where a choice is near.
std::string not_supported(const std::string& given, std::span<const std::string> choices);

}  // namespace drystone::core
