#pragma once
// drystone evaluate --ensemble: the members of a run, and their averaged probabilities.

#include <filesystem>
#include <vector>

#include "cli/evaluate.h"
#include "cli/evaluated_model.h"
#include "data/label_map.h"

namespace drystone::cli {

/// The folders "member-<k>" in a run's global/, by number; each is a PEFT adapter of its own.
std::vector<std::filesystem::path> member_folders(const std::filesystem::path& ensemble);

/// All members in one pass over the base. Classification: metrics of p̄ with the uncertainties, and
/// "ensemble" and every member among the predictives; regression: of the mean; causal LM: token
/// probabilities are averaged (client/uncertainty.h names the metrics).
/// @throws core::ConfigError, core::IoError
Measurement evaluate_ensemble(const EvaluateOptions& options, const MeasureHooks& hooks);

}  // namespace drystone::cli
