#include "cli/cut_adapter.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "aggregation/compaction.h"
#include "aggregation/update_norms.h"

namespace drystone::cli {

void add_cut_options(core::CommandLine& line, AdapterCut& cut) {
  constexpr double kLeast = 2e-7;  // below, float32 itself is off by more
  const auto rank =
      line.option("--rank", cut.rank, "Cut each module to this rank; the error is told")
          .check(core::whole_number({.low = 1}));
  line.option("--tolerance", cut.tolerance,
              "Cut each module to the smallest rank with at most this relative error, e.g. 0.01")
      .check(core::real_number({.low = kLeast, .high = 1.0, .open_high = true}))
      .excludes(rank);
}

std::string CutReport::text() const {
  std::ostringstream text;
  text.precision(3);
  text << "rank " << rank_before << " cut to " << rank_after << ": relative error "
       << relative_error;
  if (!worst_module.empty()) text << ", at most " << worst_error << " (" << worst_module << ")";
  return text.str();
}

CutReport cut_adapter(tensors::FactorSet& adapter, const AdapterCut& cut) {
  aggregation::Compaction compaction;  // lossless
  if (cut.rank > 0) compaction = {.kind = aggregation::CompactionKind::Rank, .rank = cut.rank};
  if (cut.tolerance > 0.0) {
    compaction = {.kind = aggregation::CompactionKind::Tolerance, .tolerance = cut.tolerance};
  }
  CutReport report;
  double whole = 0.0;
  double gone = 0.0;
  for (auto& [name, factors] : adapter.modules) {
    const double norm = aggregation::product_norm(factors);
    aggregation::Compacted compacted = aggregation::compact(factors, compaction);
    const double error = compacted.report.relative_error;
    report.rank_before = std::max(report.rank_before, factors.rank());
    report.rank_after = std::max(report.rank_after, compacted.report.kept_rank);
    whole += norm * norm;
    gone += norm * norm * error * error;
    if (error > report.worst_error) {
      report.worst_error = error;
      report.worst_module = name;
    }
    factors = std::move(compacted.factors);
  }
  report.relative_error = whole > 0.0 ? std::sqrt(gone / whole) : 0.0;
  return report;
}

}  // namespace drystone::cli
