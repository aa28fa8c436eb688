#pragma once
// drystone evaluate --posterior, --mc-dropout: several predictives of one classifier side by side.

#include "data/dataset.h"
#include "evaluation/evaluated_model.h"
#include "evaluation/measurement.h"

namespace drystone::evaluation {

/// As compare_predictives; "mc-dropout" is the mean of the probabilities of passes with the model's
/// own dropout on.
/// @param validation  may be empty, unless options.prior is "validation"
/// @return            no examples: stopped
/// @throws core::ConfigError, core::IoError
Measurement evaluate_predictives(const EvaluateOptions& options, const MeasureHooks& hooks,
                                 const EvaluatedModel& model, const data::Dataset& test,
                                 const data::Dataset& validation, std::int64_t num_classes);

}  // namespace drystone::evaluation
