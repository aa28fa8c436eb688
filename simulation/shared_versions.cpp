#include "simulation/shared_versions.h"

#include "client/fold.h"

namespace drystone::simulation {

void SharedVersions::follow(const wire::VersionManifest& manifest,
                            const client::Contract& contract) {
  const auto version = static_cast<std::int64_t>(manifest.version);
  if (version > newest_->version()) newest_ = fold(*newest_, manifest, contract);
}

training::GlobalStatePtr SharedVersions::fold(const training::GlobalState& before,
                                              const wire::VersionManifest& manifest,
                                              const client::Contract& contract) {
  const auto version = static_cast<std::int64_t>(manifest.version);
  if (newest_->version() == version) return newest_;
  return client::fold(before, manifest, find_payload_(manifest.payload), *contract.terms().layout,
                      contract.max_rank());
}

}  // namespace drystone::simulation
