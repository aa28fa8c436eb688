#pragma once
// The federation of a schedule: who takes part, a model of two small layers, and updates that are a
// pure function of round and client.

#include <cstdint>
#include <string>
#include <vector>

#include "aggregation/layout.h"
#include "client/contract.h"
#include "core/config.h"
#include "crypto/roster.h"
#include "tests/chaos/schedule.h"
#include "training/global_model.h"
#include "training/local_result.h"

namespace drystone::chaos {

inline const std::string kCoordinator = "coordinator";
inline const std::string kEvaluator = "evaluator";

std::string client_name(int number);
const crypto::Identity& identity_of(const std::string& name);

struct Federation {
  core::Config config;
  crypto::Roster roster;
  aggregation::AdapterLayout layout;
  std::vector<std::string> names;  ///< machines 1, 2, …: trainers, then the evaluator
};
Federation make_federation(const Schedule& schedule);

/// The state before version 0, shared by all who ask.
training::GlobalStatePtr pristine_state(bool is_large);
const tensors::FactorSet& initial_version(bool is_large);
/// What client `number` learns in a round.
const training::LocalResult& made_result(bool is_large, std::uint64_t round, int number);
/// What a provisioned client's folder says of the federation.
client::Pinned pinned(const Federation& federation);
client::ContractTerms terms_of(const Federation& federation, int number);

}  // namespace drystone::chaos
