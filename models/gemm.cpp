#include "models/gemm.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include <ATen/Version.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/autograd/custom_function.h>

namespace drystone::models {
namespace {

using OnednnLinear = at::Tensor(const at::Tensor&, const at::Tensor&,
                                const std::optional<at::Tensor>&, std::string_view,
                                c10::List<std::optional<at::Scalar>>,
                                std::optional<std::string_view>);
using OnednnHandle = std::optional<c10::TypedOperatorHandle<OnednnLinear>>;

/// LibTorch registers its oneDNN linear layer by name only, and not in every build.
OnednnHandle find_onednn_linear() {
  if (at::get_cpu_capability() != "AVX512") return std::nullopt;
  const auto handle = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
  if (!handle || !handle->hasKernelForDispatchKey(c10::DispatchKey::CPU)) return std::nullopt;
  try {
    return handle->typed<OnednnLinear>();
  } catch (const c10::Error&) {
    return std::nullopt;  // another LibTorch with another signature
  }
}

const OnednnHandle& onednn_linear() {
  static const OnednnHandle handle = find_onednn_linear();
  return handle;
}

/// Below this many multiplications, or with fewer rows, MKL is the faster one (measured).
constexpr int64_t kMinProduct = 1'000'000;
constexpr int64_t kMinRows = 8;

bool prefers_onednn(const at::Tensor& x, const at::Tensor& weight) {
  if (x.scalar_type() != at::kFloat || weight.scalar_type() != at::kFloat) return false;
  if (!x.is_cpu() || !weight.is_cpu() || weight.dim() != 2) return false;
  const int64_t rows = x.numel() / std::max<int64_t>(x.size(-1), 1);
  return rows >= kMinRows && rows * weight.numel() >= kMinProduct && onednn_linear().has_value();
}

using OptionalTensor = std::optional<at::Tensor>;

OptionalTensor if_defined(const at::Tensor& tensor) {
  return tensor.defined() ? OptionalTensor(tensor) : std::nullopt;
}

at::Tensor product(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias) {
  if (!prefers_onednn(x, weight)) return at::linear(x, weight, bias);
  return onednn_linear()->call(x, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

class LinearFunction final : public torch::autograd::Function<LinearFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight, const OptionalTensor& bias) {
    // A frozen weight needs no input for its gradient: nothing large is kept.
    const at::Tensor kept_x = weight.requires_grad() ? x : at::Tensor();
    context->save_for_backward({kept_x, weight});
    context->saved_data["bias"] = bias.has_value();
    return product(x, weight, bias);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& weight = saved[1];
    const at::Tensor& grad = grads[0];
    at::Tensor grad_x;
    at::Tensor grad_weight;
    at::Tensor grad_bias;
    if (context->needs_input_grad(0)) grad_x = product(grad, weight.t(), std::nullopt);
    const at::Tensor flat = grad.reshape({-1, weight.size(0)});
    if (context->needs_input_grad(1)) {
      grad_weight = flat.t().matmul(saved[0].reshape({-1, weight.size(1)}));
    }
    if (context->saved_data["bias"].toBool() && context->needs_input_grad(2))
      grad_bias = flat.sum(0);
    return {grad_x, grad_weight, grad_bias};
  }
};

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const bool differentiates =
      at::GradMode::is_enabled() &&
      (x.requires_grad() || weight.requires_grad() || (bias.defined() && bias.requires_grad()));
  if (differentiates && prefers_onednn(x, weight)) {
    return LinearFunction::apply(x, weight, if_defined(bias));
  }
  return differentiates ? at::linear(x, weight, bias) : product(x, weight, if_defined(bias));
}

at::Tensor linear_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::NoGradGuard no_grad;
  return product(x, weight, if_defined(bias));
}

at::Tensor linear_backward_input(const at::Tensor& grad, const at::Tensor& weight) {
  const at::NoGradGuard no_grad;
  return product(grad, weight.t(), std::nullopt);
}

void add_product_(at::Tensor& y, const at::Tensor& x, const at::Tensor& weight, double scale) {
  const at::NoGradGuard no_grad;
  const at::Tensor thin = x.to(y.scalar_type());
  const at::Tensor factor = weight.to(y.scalar_type());
  // MKL's addmm is the faster one below (measured); oneDNN's product goes by way of the cache.
  constexpr int64_t kMinRank = 32;
  constexpr int64_t kElements = 1 << 18;
  const int64_t rows = std::max<int64_t>(kElements / std::max<int64_t>(y.size(1), 1), 64);
  if (thin.size(1) < kMinRank ||
      !prefers_onednn(thin.narrow(0, 0, std::min(rows, y.size(0))), factor)) {
    y.addmm_(thin, factor.t(), /*beta=*/1, /*alpha=*/scale);
    return;
  }
  for (int64_t first = 0; first < y.size(0); first += rows) {
    const int64_t count = std::min(rows, y.size(0) - first);
    y.narrow(0, first, count).add_(product(thin.narrow(0, first, count), factor, {}), scale);
  }
}

}  // namespace drystone::models
