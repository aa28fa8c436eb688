#include "aggregation/factor_averaging.h"

#include <algorithm>

#include "aggregation/averaging.h"
#include "aggregation/update_set.h"
#include "core/check.h"
#include "tensors/factor_set_io.h"

namespace drystone::aggregation {
namespace {

// The average replaces what every client starts from: one that leaves a module out has no factors
// to average, and none would mean "back to zero".
void require_same_modules(const UpdateSet& updates, const std::string& rule,
                          const std::string& module, const std::vector<WeightedFactors>& clients) {
  for (std::size_t i = 0; i < clients.size(); ++i) {
    core::require(clients[i].factors.rank() > 0,
                  rule + ": client '" + updates.client(i) + "' does not adapt '" + module +
                      "', which others do; give all the same target_modules, or use flora");
  }
}

void require_one_rank(const UpdateSet& updates, const std::vector<WeightedFactors>& clients) {
  const int64_t rank = clients.front().factors.rank();
  for (std::size_t i = 1; i < clients.size(); ++i) {
    const int64_t other = clients[i].factors.rank();
    core::require(other == rank, "fedit: client '" + updates.client(0) + "' has rank " +
                                     std::to_string(rank) + ", '" + updates.client(i) + "' has " +
                                     std::to_string(other) +
                                     "; give all one rank, or use zero-pad or flora");
  }
}

}  // namespace

AggregationReport FactorAveragingRule::aggregate(const AggregationJob& job) const {
  core::require(job.carry_in.empty(), name() + ": an average carries nothing over");
  const UpdateSet updates(job.updates, weights_);
  tensors::FactorSetWriter output(job.output);
  AggregationReport report{.exactness = "inexact, factors averaged", .lowered = updates.lowered()};
  for (const auto& [name, shape] : updates.modules()) {
    const auto clients = updates.module(name);
    require_same_modules(updates, this->name(), name, clients);
    if (padding_ == Padding::None) require_one_rank(updates, clients);
    const tensors::Factors mean = average_zero_padded(clients);
    output.add_module(name, mean);
    report.stack_rank = std::max(report.stack_rank, updates.stack_rank(name));
    report.compact_rank = std::max(report.compact_rank, mean.rank());
    updates.forget_pages();
  }
  for (const auto& [name, shape] : updates.dense()) {
    output.add_dense(name, updates.mean_dense(name));
  }
  output.finish();
  return report;
}

}  // namespace drystone::aggregation
