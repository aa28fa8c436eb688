#pragma once
// LoRAPrune (Zhang et al., 2024, arXiv:2305.18403): LoRA whose own gradients tell which attention
// heads and feed-forward channels the model can do without.

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

#include "adapters/method.h"
#include "adapters/side_path.h"
#include "models/frozen_weight.h"
#include "tensors/pruning.h"

namespace drystone::adapters {

struct ImportanceOptions {
  double virtual_rate = 1.0;  ///< η of the virtual step that estimates the weight's gradient
  bool squares = false;       ///< the paper's form; otherwise the reference's absolute values
  bool magnitude = false;     ///< of the weight alone: the estimate is 1
};

/// Σ over each row and each column of |ĝ ⊙ W'| (or its square), W' = W + scale·B·A, where
/// ĝ = (B·A − (B − η·∂B)(A − η·∂A)) / η is W's gradient as the factors' gradients show it. Formed a
/// piece of rows at a time.
struct Importance {
  at::Tensor rows;     ///< [out]
  at::Tensor columns;  ///< [in]
};
Importance importance(const models::FrozenWeight& weight, const Pair& pair, const Pair& gradients,
                      double scale, const ImportanceOptions& options);

/// What version 0 publishes of a federation's plan; nullopt: another method's specification.
/// @param spec  missing options have their defaults
/// @throws core::ConfigError  shares that leave no time to prune
std::optional<tensors::PruningPlan> pruning_plan(const AdapterSpec& spec, std::int64_t rounds);

}  // namespace drystone::adapters
