#pragma once
// LoRA ensembles (Wang, Aitchison & Rudolph, 2023, arXiv:2310.00035): members that are trained
// apart on one frozen base, each a method of its own with the paper's regularisers.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "adapters/method.h"

namespace drystone::adapters {

/// How a training is made of members; see the options in docs/methods/lora-ensemble.md.
struct EnsembleSettings {
  enum class Assign { Seed, Cluster };

  std::int64_t members = 5;
  Assign assign = Assign::Seed;    ///< every client trains all members, or one
  std::int64_t member = -1;        ///< Cluster: the client's; −1: as its name hashes
  std::int64_t start_round = 1;    ///< 1-based: until then all members are one shared chain
  std::int64_t max_rank = 0;       ///< of what a member accumulates over rounds; 0: no bound
  double stop_share = 0.0;         ///< share of the examples that early stopping looks at; 0: off
  std::int64_t stop_every = 10;    ///< steps
  std::int64_t stop_patience = 3;  ///< checks without a better loss

  /// Whether the members part in this round: an ensemble of one is the plain method.
  bool is_forked(std::uint64_t round) const {
    return members > 1 && round >= static_cast<std::uint64_t>(start_round);
  }
  /// The members that a client trains, ascending.
  std::vector<std::int64_t> members_of(std::uint64_t seed, std::string_view client) const;
};

/// nullopt: the specification is of another method. @throws core::ConfigError  as validate
std::optional<EnsembleSettings> ensemble_settings(const AdapterSpec& spec);

/// Seed of one member's streams: that of member 0 is the federation's, so that its chain is the one
/// that the plain method would have made.
std::uint64_t member_seed(std::uint64_t seed, std::int64_t member);

/// Decoupled decay of the B factors alone: before each of the inner optimiser's steps
/// B ← max(0, 1 − rate · decay) · B. With rate · decay ≥ 1, B is the pure step; A is not touched.
/// @param decay  λ > 0
/// @throws core::ConfigError  none of the parameters is a B
std::unique_ptr<Optimizer> decay_b(std::unique_ptr<Optimizer> inner,
                                   const std::vector<Parameter>& parameters, double decay);

/// Its adapter is one member: the method named by the option `of` with KL to the pre-trained model,
/// decay of B, or neither. Clients make one training a member (training/ensemble.h).
Method lora_ensemble_method();

}  // namespace drystone::adapters
