#include "client/reveal.h"

#include <algorithm>
#include <cmath>

namespace drystone::client {

std::uint64_t coarse_count(std::uint64_t count) {
  std::uint64_t unit = 1;
  while (count / unit >= 100) unit *= 10;
  return count / unit * unit;
}

wire::Progress coarse(const wire::Progress& progress) {
  const double share = static_cast<double>(progress.step) /
                       static_cast<double>(std::max<std::uint64_t>(progress.num_steps, 1));
  return {.round = progress.round,
          .step = static_cast<std::uint64_t>(100.0 * std::min(share, 1.0)),
          .num_steps = 100,
          .loss = 0.0};
}

wire::UpdateManifest coarse(wire::UpdateManifest manifest) {
  manifest.num_examples = coarse_count(manifest.num_examples);
  manifest.num_steps = coarse_count(manifest.num_steps);
  manifest.num_tokens = coarse_count(manifest.num_tokens);
  manifest.num_passes = 0;
  manifest.train_loss = std::round(10.0 * manifest.train_loss) / 10.0;
  return manifest;
}

}  // namespace drystone::client
