#include "adapters/rank_scaling.h"

#include <cmath>
#include <string>

namespace drystone::adapters {

namespace {

constexpr double kReferenceRank = 8.0;  // whose learning rate is training.learning_rate

bool is_rslora(const core::TrainingConfig& training) {
  const auto names_rslora = [&](const char* option) {
    const auto found = training.options.find(option);
    return found != training.options.end() &&
           found->second == core::OptionValue(std::string("rslora"));
  };
  return training.method == "rslora" || names_rslora("of") || names_rslora("parameterisation");
}

}  // namespace

double rate_scale(const core::TrainingConfig& training) {
  if (training.rank_scaling != "rate") return 1.0;
  return std::sqrt(kReferenceRank / static_cast<double>(training.rank));
}

double scaled_alpha(const core::TrainingConfig& training) {
  if (training.rank_scaling != "rslora" || is_rslora(training)) return training.alpha;
  return training.alpha * std::sqrt(static_cast<double>(training.rank));
}

}  // namespace drystone::adapters
