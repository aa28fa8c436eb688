#pragma once
// LoRA (Hu et al., 2021, arXiv:2106.09685) and rsLoRA (Kalajdzievski, 2023, arXiv:2312.03732).

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "adapters/method.h"
#include "adapters/side_path.h"
#include "models/linear.h"

namespace drystone::adapters {

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

Method lora_method();
Method rslora_method();

}  // namespace drystone::adapters
