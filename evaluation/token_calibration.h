#pragma once
// How sure and how right a language model is of single tokens, added up batch by batch.

#include <array>
#include <cstddef>

#include <ATen/core/Tensor.h>

#include "training/metrics.h"

namespace drystone::evaluation {

/// The metrics of classification_metrics in which each token of the vocabulary is a class, without
/// those that need all classes' counts.
class TokenCalibration {
 public:
  /// @param p       [targets, vocabulary] probabilities
  /// @param chosen  [targets] log p of the labels: exact where p itself is 0 in its type
  /// @param labels  [targets] int64
  void add(const at::Tensor& p, const at::Tensor& chosen, const at::Tensor& labels);

  /// accuracy, nll, perplexity, ece, brier. @throws core::InvalidArgument  nothing was added
  training::Metrics metrics() const;

 private:
  static constexpr std::size_t kBins = 10;
  struct Bin {
    double hits = 0.0;
    double confidence = 0.0;
  };
  std::array<Bin, kBins> bins_{};
  double nll_ = 0.0;
  double brier_ = 0.0;
  double hits_ = 0.0;
  double count_ = 0.0;
};

}  // namespace drystone::evaluation
