#pragma once
// The Python side of a test of programs: tests/oracles/NAME.py in .venv.

#include <cstdlib>
#include <filesystem>
#include <string>

namespace drystone::test {

class Oracle {
 public:
  /// @param needs  modules that it imports: "gguf, numpy"
  Oracle(const std::string& name, const std::string& needs)
      : script_(std::string(DRYSTONE_SOURCE_DIR) + "/tests/oracles/" + name + ".py"),
        works_(std::filesystem::exists(kPython) &&
               std::system((kPython + " -c 'import " + needs + "' 2>/dev/null").c_str()) == 0) {}

  bool works() const { return works_; }
  /// Whether it ended well.
  bool run(const std::string& arguments) const {
    return std::system((kPython + " " + script_ + " " + arguments + " 2>&1").c_str()) == 0;
  }

 private:
  static inline const std::string kPython = std::string(DRYSTONE_SOURCE_DIR) + "/.venv/bin/python";

  std::string script_;
  bool works_;
};

}  // namespace drystone::test
