#pragma once
// Makes the versions of the model from what the coordinator published.

#include <filesystem>

#include "training/global_model.h"
#include "wire/messages.h"

namespace drystone::client {

/// Makes the next version of the model from the one before and a published payload. The simulator
/// shares one among all its virtual clients, so that each version is folded once.
class StateKeeper {
 public:
  virtual ~StateKeeper() = default;
  /// @throws core::IoError  the payload is unreadable; core::InvalidArgument  it does not fit the
  ///                        model
  virtual training::GlobalStatePtr apply(const training::GlobalStatePtr& state,
                                         const wire::VersionManifest& manifest,
                                         const std::filesystem::path& payload) = 0;
};

/// Folds for one client.
class OwnStateKeeper final : public StateKeeper {
 public:
  training::GlobalStatePtr apply(const training::GlobalStatePtr& state,
                                 const wire::VersionManifest& manifest,
                                 const std::filesystem::path& payload) override;
};

}  // namespace drystone::client
