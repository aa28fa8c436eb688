#pragma once
// From a published payload to the next version of the model.

#include <cstdint>
#include <filesystem>

#include "aggregation/layout.h"
#include "training/global_model.h"
#include "wire/messages.h"

namespace drystone::client {

/// Checks a payload that is whole and applies it.
/// @param layout, max_rank  see aggregation::check_version
/// @throws core::IoError  unreadable; core::Error  it does not fit the model, or overflows
training::GlobalStatePtr fold(const training::GlobalState& before,
                              const wire::VersionManifest& manifest,
                              const std::filesystem::path& payload,
                              const aggregation::AdapterLayout& layout, std::int64_t max_rank);

}  // namespace drystone::client
