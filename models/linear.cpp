#include "models/linear.h"

#include <ATen/ops/linear.h>

namespace drystone::models {

at::Tensor Linear::forward(const at::Tensor& x) const {
  return adapter != nullptr ? adapter->forward(*this, x) : plain(x);
}

at::Tensor Linear::plain(const at::Tensor& x) const { return at::linear(x, weight, bias); }

}  // namespace drystone::models
