#pragma once
// LoRA-RITE: an adaptive step on (A, B) that does not depend on how the product is factored (Yen et
// al., 2024, arXiv:2410.20625).

#include <cstdint>
#include <memory>
#include <vector>

#include "adapters/method.h"
#include "adapters/methods/factor_pairs.h"

namespace drystone::adapters {

struct LoraRiteOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-6;  ///< beside the root of an eigenvalue
  double weight_decay = 0.0;
  /// Second moments: sums of ŪᵀŪ, or (the authors' program) bias-corrected averages over its rows.
  bool sums = false;
  bool escape = false;      ///< keeps account of what a change of basis drops from them
  double clip = 0.0;        ///< largest norm of all unmagnified gradients together; 0: any
  bool balance = false;     ///< before each step, gives the two factors one norm
  double damping = 0.0;     ///< δ = c·tr(AAᵀ) / rank beside BᵀB in A's step, falling to 0
  std::int64_t warmup = 0;  ///< see warmup_of_a
};

/// With thin QRs Aᵀ = Q_A·R_A, B = Q_B·R_B a step is, for A (and likewise for B):
///     Ū = gAᵀ·R_B⁻¹ = s·GᵀQ_B,   T = Q_Bᵀ·Q_B,old
///     V ← β₂·T·V·Tᵀ + (1 − β₂)·ŪᵀŪ / in,   M ← β₁·M·Tᵀ + (1 − β₁)·Ū·(V + ρ·I)^(−½)
///     A ← A − η·(M·R_B⁻ᵀ)ᵀ
/// Its effect on B·A is the same for (R⁻¹A, BR), R ∈ GL(rank), whenever they are replaced so:
/// moments live in orthonormal bases and follow through T (damping alone depends on it). The head's
/// parts have AdamW.
/// @param others  AdamW's settings for what is no factor
/// @param step    the step under way; outlives the optimiser
/// @throws core::InvalidArgument  as sort_pairs
std::unique_ptr<Optimizer> make_lora_rite_optimizer(const std::vector<Parameter>& parameters,
                                                    const LoraRiteOptions& options,
                                                    const AdamWOptions& others, const Step& step);

}  // namespace drystone::adapters
