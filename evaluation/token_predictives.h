#pragma once
// drystone evaluate --task causal-lm --posterior: the next token's probabilities, MAP and averaged
// over the posterior.

#include "data/dataset.h"
#include "evaluation/evaluated_model.h"
#include "evaluation/measurement.h"

namespace drystone::evaluation {

/// "map", "temperature" (with validation data) and "laplace.mc" at the labelled tokens: the mean of
/// softmax(f ± J·δ) over the vocabulary, δ drawn from the posterior, alike for all texts. Linear in
/// δ, the function at −δ is known with that at δ, so that a draw takes one forward pass. Holds six
/// times a batch's logits, never those of several batches.
/// Metrics: loss, perplexity and targets of "map", "temperature", "laplace.precision",
/// "laplace.log_evidence". Predictions: nll and targets of each text, and the nll of each
/// predictive.
/// @param validation  may be empty, unless options.prior is "validation": then the λ of
///                    precision_grid's whole decades with the least NLL of at most 8 draws
/// @return            no examples: stopped
/// @throws core::ConfigError, core::IoError
Measurement evaluate_token_predictives(const EvaluateOptions& options, const MeasureHooks& hooks,
                                       const EvaluatedModel& model, const data::Dataset& test,
                                       const data::Dataset& validation);

}  // namespace drystone::evaluation
