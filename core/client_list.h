#pragma once
// The clients that a federation's configuration lists, by the names that they have everywhere.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "core/name_list.h"

namespace drystone::core {

struct ListedClient {
  std::string name;  ///< "client-01": numbered from 1, zero-padded so that names sort by number
  TrainingConfig training;
  std::string quantization = "none";
  std::string device = {};
};

/// Name of the client that evaluates on data.test in a provisioned or simulated federation.
inline constexpr const char* kEvaluatorName = "evaluator";

/// The method whose clients send the sums of a posterior over trained factors instead of training.
inline constexpr const char* kPosteriorMethod = "laplace-lora";

/// [[clients]] by number, `count` of each kind; without any, one client with [training]'s values.
/// Takes no memory for a client.
class ClientList {
 public:
  explicit ClientList(const Config& config);

  std::size_t size() const { return ends_.back(); }
  NameList names() const { return names_; }
  ListedClient operator[](std::size_t client) const;
  /// The number of the client with this name; std::nullopt: not listed.
  std::optional<std::size_t> find(std::string_view name) const { return names_.find(name); }

  /// Clients of one kind differ in their names alone. The kind of a client, from 0.
  std::size_t kind_of(std::size_t client) const;
  std::size_t num_kinds() const { return kinds_.size(); }
  /// How many clients are of the kind; at least one.
  std::size_t count(std::size_t kind) const { return ends_[kind] - first(kind); }
  /// The number of the kind's first client; the others follow it.
  std::size_t first(std::size_t kind) const { return kind == 0 ? 0 : ends_[kind - 1]; }
  /// The first client of each kind.
  std::vector<ListedClient> first_of_each_kind() const;

 private:
  std::vector<ClientGroup> kinds_;
  std::vector<std::size_t> ends_;  ///< by kind: the number after its last client
  NameList names_;
};

/// All of them, spelled out.
std::vector<ListedClient> list_clients(const Config& config);

/// Canonical text of what decides what a client learns: its training, what its base model and its
/// texts are made of, the seed; equal for clients of one kind. How fast or in how little memory it
/// computes is not in it. A plan names the SHA-256 of each client's.
/// @param config  with data.labels filled in
std::string settings_text(const Config& config, const ListedClient& client);

/// Whether a client has kPosteriorMethod.
bool collects_posterior(const Config& config);

}  // namespace drystone::core
