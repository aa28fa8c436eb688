#pragma once
// Whose a state folder is, and what stands against using it.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "core/bytes.h"
#include "crypto/key_pairs.h"

namespace drystone::coordinator {

/// Whose state a folder holds: what must not change while it is used.
struct StateOwner {
  std::string federation;           ///< id
  crypto::PublicKey coordinator{};  ///< signs plans and versions: clients know no other
  core::Digest layout{};            ///< layout_hash of what an update may contain
};

/// The snapshot of a running coordinator, in its state folder: see status.h.
inline constexpr const char* kStatusFile = "status.json";

/// Whether it is what a round's compaction cut.
bool is_carry(const std::filesystem::path& file);

/// @throws core::ConfigError  payloads lie in `state` but no database says what they are: it was
///         lost, and a fresh one would sweep them
void refuse_earlier_life(const std::filesystem::path& state);

/// The version that a file's name says it is the sum up to: "sum-3.safetensors".
std::optional<std::uint64_t> version_of_sum(const std::string& name);

/// @throws core::ConfigError  a sum in `state` is of a later version than `newest`, the database's:
///         it lost what was committed, and going on from it would sweep the later payloads
void refuse_rolled_back(const std::filesystem::path& state, std::uint64_t newest);

/// "; …": what to do about a state that was lost.
inline constexpr const char* kLostStateRemedy =
    "; restore the state folder from its newest copy, or begin anew with --start-over, which "
    "deletes what is there, or in another folder";

/// "; …": what to do about another configuration's state.
std::string other_configuration_remedy(const std::filesystem::path& run);

/// "; …": what to do about another layout's state.
std::string other_layout_remedy(const std::filesystem::path& run);

}  // namespace drystone::coordinator
