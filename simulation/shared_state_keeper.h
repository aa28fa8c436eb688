#pragma once
// Folds each published version once for all virtual clients of a process.

#include <map>
#include <memory>

#include "client/state_keeper.h"

namespace drystone::simulation {

/// Keeps a version alive only as long as some client is at it. One thread at a time.
class SharedStateKeeper final : public client::StateKeeper {
 public:
  training::GlobalStatePtr apply(const training::GlobalStatePtr& state,
                                 const wire::VersionManifest& manifest,
                                 const std::filesystem::path& payload) override {
    std::weak_ptr<const training::GlobalState>& known = versions_[manifest.head];
    training::GlobalStatePtr next = known.lock();
    if (!next) {
      next = own_.apply(state, manifest, payload);
      known = next;
    }
    return next;
  }

 private:
  client::OwnStateKeeper own_;
  std::map<core::Digest, std::weak_ptr<const training::GlobalState>> versions_;
};

}  // namespace drystone::simulation
