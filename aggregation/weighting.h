#pragma once
// Each accepted client's share of a round.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace drystone::aggregation {

enum class Weighting { Examples, Uniform };

/// What a client counts for in a round.
struct RoundWeights {
  Weighting weighting = Weighting::Examples;
  double max_norm = 0.0;  ///< see weight_factors in update_norms.h; 0: no bound
};

/// "examples" or "uniform". @throws core::ConfigError  anything else
Weighting weighting_of(const std::string& name);

/// p_k ≥ 0 with Σ p_k = 1, over the accepted updates only: whoever is not in the list (late,
/// refused, dropped) has no share and the others' shares grow. A client without examples gets 0,
/// also under Uniform.
/// @throws core::InvalidArgument  no client, or none with examples
std::vector<double> shares(Weighting weighting, std::span<const std::uint64_t> num_examples);

}  // namespace drystone::aggregation
