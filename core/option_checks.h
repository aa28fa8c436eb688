#pragma once
// What options of a command line take. All refuse in one way:
//   OPTION: "abc" is no whole number >= 1

#include <functional>
#include <string>
#include <vector>

#include "core/quantities.h"

namespace drystone::core {

/// What is wrong with a value; "" for nothing.
using OptionCheck = std::function<std::string(const std::string&)>;

OptionCheck whole_number(IntRange range);
OptionCheck real_number(RealRange range);
OptionCheck one_of(std::vector<std::string> choices);
/// What passes one of them.
OptionCheck either(OptionCheck first, OptionCheck second);
/// "3GB"
OptionCheck size();
/// "1h", or "never".
OptionCheck patience();

}  // namespace drystone::core
