#pragma once
// The Python side of a test of programs: tests/oracles/NAME.py in .venv.

#include <cstdlib>
#include <filesystem>
#include <string>

#include <doctest/doctest.h>

#include "tests/temporary_folder.h"

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

/// The oracle makes a folder for each of `number` model families, `convert` turns each into what is
/// to be checked and returns a program's exit status, and the oracle checks all of them.
template <typename Convert>
void check_families(const std::string& name, const std::string& needs, int number,
                    const Convert& convert) {
  const Oracle oracle(name, needs);
  if (!oracle.works()) {
    MESSAGE("skipped: .venv lacks one of " << needs);
    return;
  }
  const TemporaryFolder folder;
  REQUIRE(oracle.run("make " + folder.path().string()));
  int families = 0;
  for (const auto& family : std::filesystem::directory_iterator(folder.path())) {
    CAPTURE(family.path().string());
    REQUIRE(convert(family.path()) == 0);
    ++families;
  }
  CHECK(families == number);
  CHECK(oracle.run("check " + folder.path().string()));
}

}  // namespace drystone::test
