#pragma once
// A folder that lives as long as one test case.

#include <filesystem>
#include <string>

#include <stdlib.h>

#include "core/check.h"

namespace drystone::test {

class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "drystone-XXXXXX").string();
    core::ensure(::mkdtemp(pattern.data()) != nullptr, "TempDir: mkdtemp failed");
    path_ = pattern;
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace drystone::test
