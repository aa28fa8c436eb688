#include "bench/methods/run_file.h"

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace drystone::comparison {

RunFile::RunFile(const std::filesystem::path& file) {
  if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path());
  read(file);
  file_.open(file, std::ios::app);
  if (!file_) throw core::IoError(file.string() + ": cannot be written");
}

void RunFile::read(const std::filesystem::path& file) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded()) continue;  // a line that a crash cut short
    Outcome& outcome = outcomes_[json.at("run").get<std::string>()];
    outcome = {.numbers = json.at("numbers"), .problem = json.at("problem")};
  }
}

std::optional<Outcome> RunFile::find(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto found = outcomes_.find(key);
  if (found == outcomes_.end()) return std::nullopt;
  return found->second;
}

void RunFile::add(const std::string& key, const Outcome& outcome) {
  const std::lock_guard lock(mutex_);
  outcomes_[key] = outcome;
  const nlohmann::json json = {
      {"run", key}, {"numbers", outcome.numbers}, {"problem", outcome.problem}};
  file_ << json.dump() << std::endl;
  if (!file_) throw core::IoError("the file of runs cannot be written; is the disk full?");
}

}  // namespace drystone::comparison
