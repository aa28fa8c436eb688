#pragma once
// Keys of parties, and who may take part while a federation runs: what `drystone keys` does
// (docs/membership.md).

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "crypto/roster.h"

namespace drystone::cli {

/// The coordinator's side: where its configuration and state lie.
struct OperatorOptions {
  std::filesystem::path config = "coordinator.toml";
  std::filesystem::path state;  ///< empty: output.dir/state
};

/// What an approved client may; std::nullopt: as its entry says that it renews, otherwise as the
/// configuration trains.
struct GrantOptions {
  std::string role;      ///< train, evaluate; empty: not given
  std::string settings;  ///< plan, own; empty: not given
  std::optional<std::int64_t> max_rank;
  std::optional<std::int64_t> max_examples;
};

/// On the client's machine: makes a key and the request to be let in with it.
/// @return what to tell @throws core::IoError  a file exists or cannot be written
std::string request_key(const std::string& name, const std::filesystem::path& out);

/// On the client's machine: makes a key in KEYS/renewed and the request to have it in the present
/// one's place. @param config  client.toml @throws core::Error
std::string renew_key(const std::filesystem::path& config);
/// Once it was approved: puts the renewed key into the present one's place, which is kept as
/// NAME.key.replaced. Interrupted, it goes on when called again. @throws core::Error
std::string use_renewed_key(const std::filesystem::path& config);

/// On the coordinator's machine, whether it runs or not: signs a change of the roster and leaves it
/// to the coordinator. @return what became of it
/// @throws core::ConfigError  what cannot be, in one line @throws core::Error  the coordinator
/// refused it
std::string approve(const OperatorOptions& options, const std::filesystem::path& request,
                    const GrantOptions& grant);
/// @param below_quorum  also where fewer trainers are left than federation.quorum
std::string revoke(const OperatorOptions& options, const std::string& client, bool below_quorum);
/// The roster in force, and each change that led to it.
std::string list(const OperatorOptions& options);

}  // namespace drystone::cli
