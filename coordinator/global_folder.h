#pragma once
// global/: a run's last adapter, in PEFT's form.

#include <cstdint>
#include <filesystem>
#include <string>

#include "aggregation/published_sum.h"
#include "core/config.h"

namespace drystone::coordinator {

/// What stands in global/ beside the sum's own numbers.
struct GlobalSettings {
  core::Config config;     ///< resolved
  std::string base_model;  ///< as it goes into adapter_config.json
};

/// The two versions and the count that the posterior of a federation that collects one is made of.
struct PosteriorSource {
  std::filesystem::path first;   ///< version 0's payload: the factors that it is over
  std::filesystem::path newest;  ///< the last version's: the sums of their curvature
  std::uint64_t examples = 0;    ///< of the last round's accepted updates
};

/// Writes a whole folder: PEFT form and head.safetensors; of an ensemble one such folder a member,
/// member-<k>, and ensemble.json; statistics.safetensors, pruning.json, labels.json, and
/// posterior.safetensors with posterior.json, each where there is something in it. Equal sums give
/// equal bytes. Memory is about one module's.
/// @param folder     missing or empty
/// @param posterior  nullptr: none
/// @throws core::IoError
void write_global(const std::filesystem::path& folder, const GlobalSettings& settings,
                  const aggregation::PublishedSum& sum, const PosteriorSource* posterior = nullptr);

/// The bound on what members of an ensemble accumulate: the one of [training]; 0: none.
std::int64_t max_member_rank(const core::Config& config);

/// Puts `next` in the place of `folder` in one step, so that whoever opens `folder` finds the old
/// one or the new one, whole, and so does who comes after a power cut. @throws core::IoError
void replace_folder(const std::filesystem::path& next, const std::filesystem::path& folder);

}  // namespace drystone::coordinator
