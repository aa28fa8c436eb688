#pragma once
// drystone evaluate --ensemble: the members of a run, and their averaged probabilities.

#include <filesystem>
#include <vector>

#include "data/label_map.h"
#include "evaluation/evaluated_model.h"
#include "evaluation/measurement.h"

namespace drystone::evaluation {

/// The folders "member-<k>" in a run's global/, by number; each is a PEFT adapter of its own.
std::vector<std::filesystem::path> member_folders(const std::filesystem::path& ensemble);

/// All members in one pass over the base. Classification: metrics of p̄ with the uncertainties, and
/// "ensemble" and every member among the predictives; regression: of the mean; causal LM: token
/// probabilities are averaged (training/uncertainty.h names the metrics).
/// @throws core::ConfigError, core::IoError
Measurement evaluate_ensemble(const EvaluateOptions& options, const MeasureHooks& hooks);

}  // namespace drystone::evaluation
