#include "client/state_keeper.h"

#include <string>

#include "client/contract.h"
#include "core/text.h"
#include "tensors/factor_set_io.h"

namespace drystone::client {

training::GlobalStatePtr OwnStateKeeper::apply(const training::GlobalStatePtr& state,
                                               const wire::VersionManifest& manifest,
                                               const std::filesystem::path& payload) {
  training::GlobalStatePtr next =
      state->apply(manifest.version, manifest.mode, tensors::read_factor_set(payload));
  if (const auto part = next->not_finite()) {
    distrust("version " + std::to_string(manifest.version) + ", as it published it, makes " +
             core::quote(*part) + " of the model overflow");
  }
  return next;
}

}  // namespace drystone::client
