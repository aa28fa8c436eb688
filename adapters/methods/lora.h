#pragma once
// LoRA (Hu et al., 2021, arXiv:2106.09685) and rsLoRA (Kalajdzievski, 2023, arXiv:2312.03732).

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "adapters/method.h"
#include "adapters/side_path.h"
#include "models/dropout.h"
#include "models/linear.h"
#include "models/product_form.h"

namespace drystone::adapters {

/// x·Wᵀ + bias + scale · (drop(x)·Aᵀ)·Bᵀ as one node of the autograd graph. Differentiable once
/// with respect to x, a and b; never with respect to weight and bias. Keeps, on the side path, the
/// thin drop(x)·Aᵀ, and x where its recipe cannot make it again and something needs it.
/// @param x       [..., in]
/// @param weight  [out, in], frozen, dense of x's type or quantised
/// @param bias    [out], frozen, or undefined
/// @param a       [rank, in] of x's type
/// @param b       [out, rank] of x's type
/// @param dropout on x in the side path; backward draws the mask again instead of keeping it
/// @param form    the effective weight takes memory of W's size for the time of a product (not on a
///                quantised base); with dropout, or where 16 bits would swallow B·A, it is always
///                the side path
/// @return        [..., out]
at::Tensor lora_linear(const models::LayerInput& x, const models::FrozenWeightPtr& weight,
                       const at::Tensor& bias, const at::Tensor& a, const at::Tensor& b,
                       double scale, const models::Dropout& dropout = {},
                       models::ProductForm form = models::ProductForm::Automatic);
inline at::Tensor lora_linear(const models::LayerInput& x, const at::Tensor& weight,
                              const at::Tensor& bias, const at::Tensor& a, const at::Tensor& b,
                              double scale, const models::Dropout& dropout = {},
                              models::ProductForm form = models::ProductForm::Automatic) {
  return lora_linear(x, c10::make_intrusive<models::FrozenWeight>(weight), bias, a, b, scale,
                     dropout, form);
}

/// A's start of one module: U(±1/√in) [rank, in] (kaiming_uniform, a = √5). The rows of a smaller
/// rank are the first rows of a larger one of the same key.
at::Tensor fresh_a(const AdapterStart& start, const std::string& module, std::int64_t rank,
                   std::int64_t in_features);

/// B = 0 and a fresh A, or the start's factors cut or padded to the rank (with zero columns in B
/// and fresh rows in A, so that the product is kept and the new ranks can learn).
/// @throws core::InvalidArgument  start factors of another shape
Pair lora_start(const models::Linear& linear, const AdapterSpec& spec, const AdapterStart& start,
                double scale);

/// Trains both factors.
class LoraLayer : public SidePath {
 public:
  LoraLayer(const models::Linear& linear, const AdapterSpec& spec, const AdapterStart& start,
            double scale);
  Pair pair() const override { return {.a = a_, .b = b_}; }
  std::vector<Parameter> parameters() const override;

 protected:
  at::Tensor a_;
  at::Tensor b_;
};

/// Table entries.
Method lora_method();
Method rslora_method();

}  // namespace drystone::adapters
