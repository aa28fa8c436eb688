#pragma once
// When a local training has seen enough: the loss on examples that it does not train on.

#include <cstdint>
#include <limits>

namespace drystone::training {

struct EarlyStoppingSettings {
  double share = 0.0;         ///< of the examples that are set apart, in [0, 1); 0: off
  std::int64_t every = 10;    ///< steps between two looks; the last step is one
  std::int64_t patience = 3;  ///< looks without a better loss before the training ends
};

/// The rule alone: told each look's loss in turn.
class EarlyStopping {
 public:
  explicit EarlyStopping(const EarlyStoppingSettings& settings) : settings_(settings) {}

  /// Whether the loss is looked at after this 0-based step of `total`.
  bool looks_after(std::int64_t step, std::int64_t total) const {
    return (step + 1) % settings_.every == 0 || step + 1 == total;
  }
  /// @return  whether this is the best so far: what the training keeps
  bool is_best(double loss) {
    const bool better = loss < best_;
    if (better) best_ = loss;
    without_better_ = better ? 0 : without_better_ + 1;
    return better;
  }
  bool is_over() const { return without_better_ >= settings_.patience; }
  double best() const { return best_; }

 private:
  EarlyStoppingSettings settings_;
  double best_ = std::numeric_limits<double>::infinity();
  std::int64_t without_better_ = 0;
};

}  // namespace drystone::training
