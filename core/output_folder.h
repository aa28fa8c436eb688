#pragma once
// The folder that a program writes its results to.

#include <filesystem>
#include <vector>

#include "core/error.h"

namespace drystone::core {

class OutputFolder {
 public:
  /// Makes `dir` and the folders above it where they are missing. @throws IoError
  explicit OutputFolder(const std::filesystem::path& dir);

  /// Does what the program is for. A configuration that it refuses, or that names what cannot be
  /// read, leaves no folder behind: see abandon().
  template <typename Body>
  auto use(Body body) {
    try {
      return body();
    } catch (const ConfigError&) {
      abandon();
      throw;
    } catch (const IoError&) {
      abandon();
      throw;
    }
  }

  /// As use, of a folder that was empty or missing: whatever goes wrong, nothing of it stays.
  template <typename Body>
  auto fill(Body body) {
    try {
      return body();
    } catch (...) {
      discard();
      throw;
    }
  }

  /// Removes what the constructor made, if nothing but logs and empty folders has come into it
  /// since. A folder that was there before stays as it is.
  void abandon() noexcept;

 private:
  void discard() noexcept;

  std::filesystem::path dir_;
  std::vector<std::filesystem::path> made_;  ///< the innermost first
};

}  // namespace drystone::core
