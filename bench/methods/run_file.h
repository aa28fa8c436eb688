#pragma once
// What was measured, one JSON line a run: a comparison that was stopped goes on where it was.

#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace drystone::comparison {

/// What one run gave: "loss", "bytes" …; or why it gave nothing.
struct Outcome {
  std::map<std::string, double> numbers;
  std::string problem;  ///< of a run that failed

  bool is_good() const { return problem.empty(); }
  double at(const std::string& name) const { return numbers.at(name); }
};

/// From any thread.
class RunFile {
 public:
  /// @throws core::IoError
  explicit RunFile(const std::filesystem::path& file);

  std::optional<Outcome> find(const std::string& key) const;
  /// @throws core::IoError
  void add(const std::string& key, const Outcome& outcome);

 private:
  void read(const std::filesystem::path& file);

  mutable std::mutex mutex_;
  std::map<std::string, Outcome> outcomes_;
  std::ofstream file_;
};

}  // namespace drystone::comparison
