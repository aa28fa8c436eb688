#pragma once
// Several ways to turn one model into class probabilities, measured side by side.

#include <cstddef>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "evaluation/measurement.h"

namespace drystone::evaluation {

/// Collects log p of several predictives over one data set, in the data set's order.
class Predictives {
 public:
  /// @param labels       [examples] int64
  /// @param num_classes  the most that an example has
  Predictives(at::Tensor labels, std::int64_t num_classes)
      : labels_(std::move(labels)), num_classes_(num_classes) {}

  /// @param log_p  [n, classes] of the given examples; classes that they lack have probability 0
  void add(const std::string& name, const std::vector<std::size_t>& examples,
           const at::Tensor& log_p);

  /// [examples, classes] fp64.
  const at::Tensor& log_probabilities(const std::string& name) const;
  const at::Tensor& labels() const { return labels_; }
  /// Mean −log p of the true classes.
  double nll(const std::string& name) const;

  /// Metrics of the first predictive, and of each by name in the order in which they came.
  Measurement measurement() const;

 private:
  at::Tensor labels_;
  std::int64_t num_classes_;
  std::vector<std::pair<std::string, at::Tensor>> all_;
};

/// The temperature T that minimises the mean NLL of softmax(log p / T) (Guo et al., 2017,
/// arXiv:1706.04599). @param log_p  [n, classes]  @param labels  [n] int64
double fit_temperature(const at::Tensor& log_p, const at::Tensor& labels);

}  // namespace drystone::evaluation
