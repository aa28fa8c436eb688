#pragma once
// The clients that a federation's configuration lists, by the names that they have everywhere.

#include <string>
#include <vector>

#include "core/config.h"

namespace drystone::core {

struct ListedClient {
  std::string name;  ///< "client-01": numbered from 1, zero-padded so that names sort by number
  TrainingConfig training;
  std::string quantization = "none";
};

/// Name of the client that evaluates on data.test in a provisioned or simulated federation.
inline constexpr const char* kEvaluatorName = "evaluator";

/// The method whose clients send the sums of a posterior over trained factors instead of training.
inline constexpr const char* kPosteriorMethod = "laplace-lora";

/// [[clients]] spelled out, `count` times each; without any, one client with [training]'s values.
std::vector<ListedClient> list_clients(const Config& config);

/// Canonical text of what decides what a client learns: its training, what its base model and its
/// texts are made of, the seed. How fast or in how little memory it computes is not in it. A plan
/// names the SHA-256 of each client's.
/// @param config  with data.labels filled in
std::string settings_text(const Config& config, const ListedClient& client);

/// Whether a client has kPosteriorMethod.
bool collects_posterior(const Config& config);

}  // namespace drystone::core
