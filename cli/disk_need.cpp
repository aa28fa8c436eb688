#include "cli/disk_need.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "aggregation/rules.h"

namespace drystone::cli {

namespace {

/// The federation's numbers leave 63 bits long after they leave any disk.
constexpr double kMost = 1e18;

std::uint64_t bytes(double value) { return static_cast<std::uint64_t>(std::min(value, kMost)); }

double dense_bytes(const aggregation::AdapterLayout& layout) {
  double bytes = 0.0;
  for (const auto& [name, sizes] : layout.dense) {
    double numbers = 1.0;
    for (const std::int64_t size : sizes) numbers *= static_cast<double>(size);
    bytes += numbers * sizeof(float);
  }
  return bytes;
}

/// Factors of that rank, or of what a module can hold where that is less. @param width  of a number
double factor_bytes(const aggregation::AdapterLayout& layout, double rank, std::size_t width) {
  double numbers = 0.0;
  for (const auto& [name, module] : layout.modules) {
    const auto out = static_cast<double>(module.out);
    const auto in = static_cast<double>(module.in);
    numbers += std::min(rank, std::min(out, in)) * (out + in);
  }
  return numbers * static_cast<double>(width);
}

double update_bytes(const aggregation::AdapterLayout& layout, double rank) {
  return factor_bytes(layout, rank, sizeof(float)) + dense_bytes(layout) +
         static_cast<double>(aggregation::max_header_bytes(layout));
}

/// Of a published version: stacked ranks, or the largest where averages replace the last.
double version_rank(const core::AggregationConfig& config, double sum, double largest) {
  const auto mode = aggregation::find_rule(config).mode;
  const double made = mode == core::PublishMode::Replace ? largest : sum;
  return config.compaction == "rank" ? std::min(made, static_cast<double>(config.rank)) : made;
}

std::size_t num_asked(const core::FederationConfig& federation, std::size_t trainers) {
  if (federation.cohort == 0) return trainers;
  const double asked =
      std::ceil(static_cast<double>(federation.cohort) * federation.over_selection);
  return std::min(trainers, static_cast<std::size_t>(asked));
}

}  // namespace

DiskNeed disk_need(const core::Config& config, const aggregation::AdapterLayout& layout,
                   std::vector<std::int64_t> ranks, std::uint64_t rounds_left) {
  std::ranges::sort(ranks, std::greater());
  ranks.resize(num_asked(config.federation, ranks.size()));
  double updates = 0.0;
  for (const std::int64_t rank : ranks) updates += update_bytes(layout, static_cast<double>(rank));
  const double sum = static_cast<double>(std::accumulate(ranks.begin(), ranks.end(), 0LL));
  const double largest = ranks.empty() ? 0.0 : static_cast<double>(ranks.front());
  const double rank = version_rank(config.aggregation, sum, largest);
  const double version = update_bytes(layout, rank);
  const auto rounds = static_cast<double>(rounds_left);
  // The sum of all versions in float64 and global/ in float32: the old and the new of each.
  const double total_rank = rank * static_cast<double>(config.federation.rounds);
  const double sums =
      2.0 * (factor_bytes(layout, total_rank, sizeof(double)) +
             factor_bytes(layout, total_rank, sizeof(float)) + 3.0 * dense_bytes(layout));
  const double kept = version + (config.output.keep_updates ? updates : 0.0);
  const double round = updates + 2.0 * version;  // the payload, and while it is made
  return {.next_round = bytes(round + sums),
          .all = bytes(std::max(0.0, rounds - 1.0) * kept + (rounds > 0.0 ? round : 0.0) + sums)};
}

}  // namespace drystone::cli
