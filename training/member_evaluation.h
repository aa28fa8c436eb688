#pragma once
// Quality of an ensemble on held-out examples.

#include <cstdint>
#include <optional>

#include "training/evaluator.h"
#include "training/member_predictor.h"
#include "training/uncertainty.h"

namespace drystone::training {

/// As evaluate_model, of the members' averaged probabilities: classification as ensemble_metrics,
/// regression as ensemble_regression_metrics, causal LM as TokenUncertainty (uncertainty.h).
/// @param batch_size  examples of all members together that run at once
std::optional<Evaluation> evaluate_members(models::Model& model, MemberPredictor& predictor,
                                           const Examples& examples, std::int64_t batch_size,
                                           const EvaluateHooks& hooks = {});

/// Feeds a language model's batch to `scores` in pieces of few enough rows for all members' logits
/// over the vocabulary. Rows without a target are left out.
void add_tokens(MemberPredictor& predictor, const models::Batch& batch, TokenUncertainty& scores);

}  // namespace drystone::training
