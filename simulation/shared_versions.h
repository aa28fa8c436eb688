#pragma once
// The versions of the model that all virtual clients of a process train from.

#include <filesystem>
#include <functional>
#include <utility>

#include "client/contract.h"
#include "training/global_model.h"
#include "wire/messages.h"

namespace drystone::simulation {

/// Each version is folded once, by the first client that follows it; the newest is kept, of the
/// others what some evaluation still holds. One thread at a time.
class SharedVersions {
 public:
  using FindPayload = std::function<std::filesystem::path(const core::Digest&)>;

  /// @param find_payload  where the coordinator keeps a published payload, whole; else it throws
  SharedVersions(training::GlobalStatePtr pristine, FindPayload find_payload)
      : pristine_(std::move(pristine)),
        newest_(pristine_),
        find_payload_(std::move(find_payload)) {}

  const training::GlobalStatePtr& pristine() const { return pristine_; }
  const training::GlobalStatePtr& newest() const { return newest_; }
  /// Makes the version the newest, unless it is or was. @throws  as client::fold
  void follow(const wire::VersionManifest& manifest, const client::Contract& contract);
  /// The version itself, also when it is no longer the newest. @throws  as client::fold
  training::GlobalStatePtr fold(const training::GlobalState& before,
                                const wire::VersionManifest& manifest,
                                const client::Contract& contract);

 private:
  training::GlobalStatePtr pristine_;
  training::GlobalStatePtr newest_;
  FindPayload find_payload_;
};

}  // namespace drystone::simulation
