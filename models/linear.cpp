#include "models/linear.h"

#include "models/gemm.h"

namespace drystone::models {

at::Tensor Linear::forward(const at::Tensor& x) const {
  return adapter != nullptr ? adapter->forward(*this, x) : plain(x);
}

at::Tensor Linear::plain(const at::Tensor& x) const { return linear(x, weight, bias); }

}  // namespace drystone::models
