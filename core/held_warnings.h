#pragma once
// Warnings of the log, held back for whoever tells them in another way.

#include <string>
#include <vector>

namespace drystone::core {

/// While it lives, warnings and errors of this process go here and not into the log. One at a time.
class HeldWarnings {
 public:
  HeldWarnings();
  ~HeldWarnings();
  HeldWarnings(const HeldWarnings&) = delete;
  HeldWarnings& operator=(const HeldWarnings&) = delete;

  /// Those since the last call, one line each: "PHRASE KEY=VALUE …". Any thread.
  std::vector<std::string> take();
};

}  // namespace drystone::core
