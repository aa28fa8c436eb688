#pragma once
// The numbers that papers report, as pure functions. Each is checked against scikit-learn or SciPy
// (tests/oracles/metrics_oracle.py).

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace drystone::training {

using Metrics = std::map<std::string, double>;

/// Predicted against true classes.
class Confusion {
 public:
  /// @param truth, predicted  class ids in [0, classes), of equal length ≥ 1
  /// @throws core::InvalidArgument  otherwise
  Confusion(std::span<const std::int64_t> truth, std::span<const std::int64_t> predicted,
            std::int64_t classes);

  double accuracy() const;
  /// F1 of one class; 0 where it neither occurs nor is predicted.
  double f1(std::int64_t positive) const;
  /// Mean of F1 over the classes that occur or are predicted.
  double macro_f1() const;
  /// F1 of the counts added over all classes: equals the accuracy, as each row has one class.
  double micro_f1() const;
  /// Matthews' correlation, for any number of classes (Gorodkin, 2004); 0 where it is undefined.
  double matthews() const;

 private:
  std::vector<double> hits_;       ///< of each class: rows of it that were predicted as it
  std::vector<double> truths_;     ///< rows of it
  std::vector<double> predicted_;  ///< rows predicted as it
  double count_ = 0.0;
};

/// accuracy, f1_macro, f1_micro, matthews, for two classes also f1 (of class 1); nll (mean −log p
/// of the true class) = loss; ece over 10 bins of equal width on the largest probability:
/// Σ_bin (n_bin / n) · |accuracy − mean confidence|; brier: mean of Σ_class (p − [is true])², which
/// runs from 0 to 2. A tie counts for the lower class.
/// @param logits  [n, classes]  @param labels  [n] int64
/// @throws core::InvalidArgument  a label that is not a class
Metrics classification_metrics(const at::Tensor& logits, const at::Tensor& labels);

/// mse = loss; mae; Pearson's and Spearman's (average ranks) correlation, NaN where one side is
/// constant.
/// @param predictions  [n] or [n, 1]  @param targets  [n]
Metrics regression_metrics(const at::Tensor& predictions, const at::Tensor& targets);

/// e^loss.
double perplexity(double mean_nll);

/// One answer of a multiple-choice question, as a language model sees it after the question.
struct Choice {
  double log_likelihood = 0.0;  ///< Σ log p of its tokens
  std::size_t num_characters = 1;
  std::size_t num_bytes = 1;
  std::size_t num_tokens = 1;
};

/// Which answer has the largest likelihood; the first of equals.
struct ChosenAnswers {
  std::size_t by_sum = 0;
  std::size_t by_characters = 0;  ///< log-likelihood a character
  std::size_t by_bytes = 0;
  std::size_t by_tokens = 0;
};
/// @throws core::InvalidArgument  no answers, or one of length 0
ChosenAnswers choose(std::span<const Choice> choices);

/// accuracy (sums), accuracy_norm (a character: what the LM evaluation harness calls acc_norm),
/// accuracy_bytes, accuracy_tokens.
/// @param truth  the right answer of each question  @throws core::InvalidArgument  lengths differ
Metrics multiple_choice_metrics(std::span<const ChosenAnswers> chosen,
                                std::span<const std::size_t> truth);

}  // namespace drystone::training
