#include "cli/verify_global.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "coordinator/global_folder.h"
#include "coordinator/sum_cache.h"
#include "core/client_list.h"
#include "wire/durable_file.h"

namespace drystone::cli {

namespace fs = std::filesystem;

namespace {

bool is_sound(const wire::EvaluationManifest& evaluation) {
  const auto loss = evaluation.metrics.find("loss");
  return loss == evaluation.metrics.end() || std::isfinite(loss->second);
}

/// A version whose loss is not finite is never in global/.
std::size_t num_summed(const std::vector<VersionFacts>& versions) {
  const auto unsound = std::ranges::find_if(versions, [](const VersionFacts& facts) {
    return facts.manifest->version > 0 && !std::ranges::all_of(facts.evaluations, is_sound);
  });
  return static_cast<std::size_t>(unsound - versions.begin());
}

std::vector<coordinator::SummedVersion> summed(const GlobalCheck& check) {
  std::vector<coordinator::SummedVersion> versions;
  for (std::size_t i = 0; i < num_summed(check.versions); ++i) {
    const wire::VersionManifest& manifest = *check.versions[i].manifest;
    versions.push_back(
        {.head = core::to_hex(manifest.head), .payload = check.payloads[i], .mode = manifest.mode});
  }
  return versions;
}

std::optional<coordinator::PosteriorSource> posterior(
    const GlobalCheck& check, const std::vector<coordinator::SummedVersion>& versions) {
  if (versions.size() < 2 || !core::collects_posterior(check.config)) return std::nullopt;
  coordinator::PosteriorSource source{.first = versions.front().payload,
                                      .newest = versions.back().payload};
  for (const wire::UpdateManifest& claim : check.versions[versions.size() - 1].claims) {
    source.examples += claim.num_examples;
  }
  return source;
}

}  // namespace

std::set<fs::path> check_global(const GlobalCheck& check) {
  const auto versions = summed(check);
  const auto source = posterior(check, versions);
  coordinator::SumCache cache(check.scratch / "sum", coordinator::max_member_rank(check.config));
  fs::create_directories(check.scratch / "sum");
  const auto sum = cache.sum_of(versions);
  const fs::path again = check.scratch / "global";
  coordinator::write_global(
      again, {.config = check.config, .base_model = check.config.model.path.string()}, *sum,
      source ? &*source : nullptr);
  std::set<fs::path> right;
  for (const auto& entry : fs::recursive_directory_iterator(again)) {
    if (entry.is_directory()) continue;
    const fs::path name = entry.path().lexically_relative(again);
    const fs::path file = check.folder / name;
    hold(fs::exists(file), name.string() + " is missing");
    hold(wire::hash_file(file) == wire::hash_file(entry.path()),
         name.string() + " is not what the versions add up to");
    right.insert(file);
  }
  return right;
}

}  // namespace drystone::cli
