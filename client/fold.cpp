#include "client/fold.h"

#include <string>

#include "aggregation/version_checks.h"
#include "client/contract.h"
#include "core/mapped_file.h"
#include "core/text.h"
#include "tensors/factor_set_io.h"

namespace drystone::client {

training::GlobalStatePtr fold(const training::GlobalState& before,
                              const wire::VersionManifest& manifest,
                              const std::filesystem::path& payload,
                              const aggregation::AdapterLayout& layout, std::int64_t max_rank) {
  const std::string version =
      "version " + std::to_string(manifest.version) + ", as it published it";
  {
    const core::MappedFile file(payload);
    if (const auto fits = aggregation::check_version(file.bytes(), layout, max_rank); !fits) {
      distrust(version + ": " + fits.error().detail);
    }
  }
  training::GlobalStatePtr next =
      before.apply(manifest.version, manifest.mode, tensors::read_factor_set(payload));
  if (const auto part = next->not_finite()) {
    distrust(version + ", makes " + core::quote(*part) + " of the model overflow");
  }
  return next;
}

}  // namespace drystone::client
