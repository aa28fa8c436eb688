#pragma once
// What options of a command line take. All refuse in one way:
//   OPTION: "abc" is no whole number >= 1

#include <string>
#include <vector>

#include "core/quantities.h"

namespace CLI {
class Validator;
}  // namespace CLI

namespace drystone::core {

CLI::Validator whole_number(IntRange range);
CLI::Validator real_number(RealRange range);
CLI::Validator one_of(std::vector<std::string> choices);
/// "3GB"; as a transformation: to bytes.
CLI::Validator size();
/// "1h", or "never".
CLI::Validator patience();

}  // namespace drystone::core
