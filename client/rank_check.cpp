#include "client/rank_check.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "adapters/method.h"
#include "adapters/registry.h"
#include "core/error.h"
#include "core/log.h"
#include "core/text.h"
#include "tensors/factors.h"

namespace drystone::client {

namespace {

/// Over the layers that a training adapts.
struct Bounds {
  std::int64_t most = 0;
  std::int64_t least = 0;
  std::string narrowest = {};  ///< the layer that can use the least
  bool is_limit = false;       ///< the method cannot be made beyond `least`
};

Bounds bounds_of(const core::TrainingConfig& training, const aggregation::AdapterLayout& layout) {
  const adapters::Method& method = adapters::find_method(training.method);
  Bounds bounds{.is_limit = method.rank_limit != nullptr};
  for (const auto& [name, shape] : layout.modules) {
    const bool is_bases = tensors::scope_of(name).empty();
    if (!is_bases || !adapters::is_target(name, training.target_modules)) continue;
    const std::int64_t useful = bounds.is_limit ? method.rank_limit(shape.out, shape.in)
                                                : adapters::smaller_side(shape.out, shape.in);
    bounds.most = std::max(bounds.most, useful);
    if (!bounds.narrowest.empty() && useful >= bounds.least) continue;
    bounds.least = useful;
    bounds.narrowest = name;
  }
  return bounds;
}

}  // namespace

void check_ranks(const core::Config& config, std::span<const core::ListedClient> clients,
                 const aggregation::AdapterLayout& layout) {
  std::map<std::pair<std::string, std::vector<std::string>>, Bounds> known;
  bool is_warned = false;
  for (const core::ListedClient& listed : clients) {
    const core::TrainingConfig& training = listed.training;
    const std::pair key(training.method, training.target_modules);
    auto found = known.find(key);
    if (found == known.end()) found = known.emplace(key, bounds_of(training, layout)).first;
    const Bounds& bounds = found->second;
    const std::int64_t largest = bounds.is_limit ? bounds.least : bounds.most;
    if (bounds.narrowest.empty()) continue;
    if (training.rank > largest) {
      throw core::config_error(
          config, "training.rank",
          std::to_string(training.rank) + " of " + core::quote(listed.name) +
              " is more than the layers of this model can use; the largest rank that is of use "
              "with method " +
              core::quote(training.method) + " is " + std::to_string(largest));
    }
    if (training.rank <= bounds.least || std::exchange(is_warned, true)) continue;
    core::log_warning("a rank above what some layers can use: it costs memory and bytes there",
                      {{"client", std::string_view(listed.name)},
                       {"rank", training.rank},
                       {"of_use", bounds.least},
                       {"layer", std::string_view(bounds.narrowest)}});
  }
}

}  // namespace drystone::client
