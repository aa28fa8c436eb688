#pragma once
// PiSSA: principal singular values and vectors adaptation (Meng et al., 2024, arXiv:2404.02948).

#include <vector>

#include <ATen/core/Tensor.h>

#include "adapters/method.h"
#include "adapters/side_path.h"

namespace drystone::adapters {

/// Trains A and B from A₀ = √(S/s)·Vᵀ, B₀ = U·√(S/s) of W's r largest singular triplets, beside
/// W_res = W − s·B₀·A₀. W_res is never formed: with ΔW = s·(B·A − B₀·A₀) =
/// s·[B − B₀, B₀]·[A; A − A₀] the layer is a side path of rank 2r on the weight that the linear
/// holds, exactly zero at the start, on a base of any kind.
class PissaLayer final : public SidePath {
 public:
  /// Reads the options "svd" and "iterations". @throws core::ConfigError  rank > min(out, in)
  PissaLayer(const models::Linear& linear, const AdapterSpec& spec, const AdapterStart& start);

  Pair pair() const override;
  std::vector<Parameter> parameters() const override;

 private:
  at::Tensor a_, b_;
  at::Tensor a0_, b0_;
};

/// The two options that PissaLayer reads.
std::vector<MethodOption> pissa_options();
/// 2r
std::int64_t pissa_export_rank(const AdapterSpec& spec);

Method pissa_method();

}  // namespace drystone::adapters
