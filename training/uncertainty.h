#pragma once
// What several predictive distributions say together: their mean, and how much of its uncertainty
// is disagreement (Lakshminarayanan et al., 2017; Houlsby et al., 2011).

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "training/metrics.h"

namespace drystone::training {

/// ln p̄, p̄ = (1/M)·Σ_m p_m: probabilities are averaged, not logits and not weights.
/// @param log_p  [members, ..., classes], normalised over classes
/// @return       [..., classes]
at::Tensor mixture(const at::Tensor& log_p);

/// In nats, of each row.
struct Uncertainty {
  at::Tensor total;      ///< H[p̄]
  at::Tensor aleatoric;  ///< mean of H[p_m]
  at::Tensor epistemic;  ///< the difference: the mutual information of label and member, ≥ 0
};

/// @param log_p  [members, ..., classes]  @return  each [...]
Uncertainty uncertainty_of(const at::Tensor& log_p);

/// classification_metrics of p̄, and: uncertainty_total, uncertainty_aleatoric,
/// uncertainty_epistemic (means over rows), nll_members (mean over members; never below nll, by
/// Jensen's inequality), accuracy_members (likewise), nll_member_<m> of up to 16 members.
/// @param logits  [members, n, classes]  @param labels  [n] int64
Metrics ensemble_metrics(const at::Tensor& logits, const at::Tensor& labels);

/// regression_metrics of the members' mean, and mse_members (mean over members),
/// variance_members (of the predictions, between members, mean over rows).
/// @param predictions  [members, n]  @param targets  [n]
Metrics ensemble_regression_metrics(const at::Tensor& predictions, const at::Tensor& targets);

/// The same for language models, added up over batches of predicted tokens.
class TokenUncertainty {
 public:
  /// @param logits  [members, targets, vocabulary]  @param labels  [targets] int64
  void add(const at::Tensor& logits, const at::Tensor& labels);
  /// loss (−ln p̄ of the token, mean over targets), perplexity, targets, and the uncertainties and
  /// members' losses under the names of ensemble_metrics.
  Metrics metrics() const;

 private:
  double loss_ = 0.0;
  double total_ = 0.0;
  double aleatoric_ = 0.0;
  std::vector<double> member_losses_;
  std::int64_t num_targets_ = 0;
};

}  // namespace drystone::training
