#include "models/product_form.h"

namespace drystone::models {
namespace {

/// Nanoseconds of one element of the result, one thread: a pass over memory and the products.
struct Cost {
  double pass = 0.0;
  double rank = 0.0;

  double of(std::int64_t rank_) const { return pass + rank * static_cast<double>(rank_); }
};

// Measured (decision 7); only the ratios matter.
constexpr Cost kAddToActivations{.pass = 0.3, .rank = 0.011};
constexpr Cost kAddToWeight{.pass = 0.4, .rank = 0.011};
constexpr Cost kAddToPiece{.pass = 0.2, .rank = 0.011};  // is in the cache already
constexpr double kMargin = 1.1;

}  // namespace

bool prefers_effective_weight(const ProductShape& shape) {
  const auto tokens = static_cast<double>(shape.tokens);
  const auto in = static_cast<double>(shape.in);
  const auto out = static_cast<double>(shape.out);
  // The thin products with x and with the gradient are made either way.
  const double side = tokens * (in + out) * kAddToActivations.of(shape.rank);
  const Cost& build = shape.quantized ? kAddToPiece : kAddToWeight;
  return kMargin * 2.0 * in * out * build.of(shape.rank) < side;
}

}  // namespace drystone::models
