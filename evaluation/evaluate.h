#pragma once
// The quality of a model, with or without an adapter, on a data file (docs/evaluation.md).

#include <string>
#include <vector>

#include "evaluation/measurement.h"

namespace drystone::evaluation {

/// Needs max_length > 0 (with_defaults). @return  no examples: stopped
/// @throws core::ConfigError, core::IoError
Measurement evaluate(const EvaluateOptions& options, const MeasureHooks& hooks);

/// What EvaluateOptions::task may be.
std::vector<std::string> task_names();

/// The same options, max_length filled in.
EvaluateOptions with_defaults(EvaluateOptions options);

// What evaluate() chooses from.
Measurement evaluate_labels(const EvaluateOptions& options, const MeasureHooks& hooks);
Measurement evaluate_causal_lm(const EvaluateOptions& options, const MeasureHooks& hooks);
Measurement evaluate_multiple_choice(const EvaluateOptions& options, const MeasureHooks& hooks);
Measurement evaluate_exact_match(const EvaluateOptions& options, const MeasureHooks& hooks);

}  // namespace drystone::evaluation
