#pragma once
// Ranks, norms and spectra of what a federation leaves behind.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/verify.h"
#include "tensors/factors.h"

namespace drystone::cli {

struct ModuleInspection {
  std::string name;
  std::int64_t out = 0;
  std::int64_t in = 0;
  std::int64_t rank = 0;
  double norm = 0.0;             ///< Frobenius norm of ΔW
  std::vector<double> singular;  ///< of ΔW, descending, `rank` of them
};

struct Inspection {
  std::string what;  ///< "adapter", "factors", "run" or "state", and where
  std::vector<ModuleInspection> modules;
  std::vector<std::string> dense;  ///< "classifier.weight [20, 384]"
  std::string report;              ///< run folder: report.json's text
  std::string state;               ///< state folder: versions and rounds, as JSON
};

/// @throws core::ConfigError  there is nothing at `path`
void require_existing(const std::filesystem::path& path);

/// @throws core::ConfigError  nothing there, or nothing that Drystone knows;
///         core::IoError  it cannot be read
Inspection inspect(const std::filesystem::path& path);

std::string to_text(const Inspection& inspection);
std::string to_json(const Inspection& inspection);
/// Of the files that are not covered, five a folder and how many more there are.
std::string to_text(const Verification& verification);
std::string to_json(const Verification& verification);

}  // namespace drystone::cli
