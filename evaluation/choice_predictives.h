#pragma once
// drystone evaluate --task multiple-choice --posterior, --validation: the answers' probabilities.

#include <span>

#include "evaluation/choice_questions.h"
#include "evaluation/evaluated_model.h"
#include "evaluation/measurement.h"
#include "evaluation/posterior.h"

namespace drystone::evaluation {

/// The measurement with what compare_predictives says of softmax(s), s the answers' Σ log p: the
/// answers to a question are its classes. Each prediction gets its "predictives".
/// @param posterior  nullptr: none
/// @return           no examples: stopped
Measurement with_choice_predictives(Measurement measurement, const EvaluateOptions& options,
                                    const MeasureHooks& hooks, const EvaluatedModel& model,
                                    PosteriorModel* posterior,
                                    std::span<const ChoiceQuestion> questions);

}  // namespace drystone::evaluation
