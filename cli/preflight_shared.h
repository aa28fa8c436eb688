#pragma once
// What preflight looks at for more than one party.

#include <filesystem>
#include <memory>
#include <string>

#include "cli/disk_need.h"
#include "cli/preflight.h"
#include "client/federated_data.h"
#include "training/workbench.h"

namespace drystone::cli {

/// A file that is newer than this machine's time: the clock is behind. Nothing but the times in
/// logs depends on it: deadlines are counted from receipt.
void check_clock(const core::Config& config, Preflight& preflight);

/// Whether files can be made in a folder, which may be missing yet. @param key  that names it
void check_writable(const std::filesystem::path& folder, const std::string& key,
                    Preflight& preflight);

/// @param remedy  for who has too little
void check_disk(const std::filesystem::path& folder, const DiskNeed& need,
                const std::string& remedy, Preflight& preflight);

/// The base model, its hash, its tokenizer and the device, as a workbench takes them; nullptr: one
/// of them failed.
std::unique_ptr<training::Workbench> check_model(const core::Config& config,
                                                 const std::string& device, Preflight& preflight);

/// Labels, empty texts, lengths and numbers of records that were read. @param key  of their file
void check_records(const core::Config& config, const std::string& key,
                   const client::Records& records, const training::Workbench& workbench,
                   Preflight& preflight);

/// What training takes beside what is there. @param examples  the workbench's name for them
void check_memory(const core::TrainingConfig& training, const training::Workbench& workbench,
                  const std::string& examples, const std::string& what, Preflight& preflight);

}  // namespace drystone::cli
