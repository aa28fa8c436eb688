#pragma once
// drystone evaluate --posterior, --mc-dropout: several predictives of one classifier side by side.

#include "cli/evaluate.h"
#include "cli/evaluated_model.h"
#include "data/dataset.h"

namespace drystone::cli {

/// "map", then "temperature" (with validation data), "mc-dropout" (mean probabilities of passes
/// with the model's own dropout on) and, for each posterior of the folder, ".mc", ".probit" and
/// ".bridge"; also "NAME.precision" and "NAME.log_evidence" of each among the metrics.
/// @param validation  may be empty, unless options.prior is "validation"
/// @return            no examples: stopped
/// @throws core::ConfigError, core::IoError
Measurement evaluate_predictives(const EvaluateOptions& options, const MeasureHooks& hooks,
                                 const EvaluatedModel& model, const data::Dataset& test,
                                 const data::Dataset& validation);

}  // namespace drystone::cli
