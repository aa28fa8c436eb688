#include "aggregation/stacking_rule.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <optional>
#include <set>
#include <sstream>

#include "aggregation/stacking.h"
#include "aggregation/update_set.h"
#include "core/check.h"
#include "tensors/factor_set_io.h"

namespace drystone::aggregation {
namespace {

/// The last round publishes all that earlier ones cut: there is nobody to carry it on.
Compaction compaction_of_round(const Compaction& compaction, bool is_last) {
  const bool cuts =
      compaction.kind == CompactionKind::Tolerance || compaction.kind == CompactionKind::Rank;
  return is_last && cuts ? Compaction{.kind = CompactionKind::Lossless} : compaction;
}

std::string exactness_of(const Compaction& compaction, bool carries, double relative_error) {
  if (!carries) return "exact";
  std::ostringstream text;
  text << "truncated, ";
  if (compaction.kind == CompactionKind::Rank) {
    text << "rank=" << compaction.rank;
  } else {
    text << "tol=" << std::setprecision(6) << compaction.tolerance;
  }
  text << ", " << std::setprecision(2) << 100.0 * relative_error << " % carried over";
  return text.str();
}

/// ‖what was cut‖ / ‖stack‖ over all modules, Frobenius.
class CutError {
 public:
  void add(const CompactionReport& module) {
    double squares = 0.0;
    for (const double sigma : module.sigma) squares += sigma * sigma;
    all_ += squares;
    cut_ += module.relative_error * module.relative_error * squares;
  }
  double relative() const { return all_ > 0.0 ? std::sqrt(cut_ / all_) : 0.0; }

 private:
  double all_ = 0.0;
  double cut_ = 0.0;
};

/// What the last round cut, where there was something.
class Carry {
 public:
  explicit Carry(const std::filesystem::path& file) {
    if (!file.empty()) file_.emplace(file);
  }

  void add_modules_to(std::set<std::string>& names) const {
    if (!file_) return;
    for (const auto& [name, shape] : file_->shapes().modules) names.insert(name);
  }

  /// Appends this module's carried part to the terms of the sum.
  void append_to(std::vector<ScaledFactors>& terms, const std::string& module) const {
    if (!file_ || !file_->shapes().modules.contains(module)) return;
    terms.push_back({file_->module(module), 1.0});
  }

 private:
  std::optional<tensors::FactorSetFile> file_;
};

/// The next round's carry; the file comes into being with the first module that leaves something.
class CarryWriter {
 public:
  explicit CarryWriter(const std::filesystem::path& file) : file_(file) {}

  void add(const std::string& module, const tensors::Factors& tail) {
    if (!writer_) writer_.emplace(file_);
    writer_->add_module(module, tail);
  }
  void finish() {
    if (writer_) writer_->finish();
  }
  bool has_content() const { return writer_.has_value(); }

 private:
  const std::filesystem::path& file_;
  std::optional<tensors::FactorSetWriter> writer_;
};

}  // namespace

AggregationReport StackingRule::aggregate(const AggregationJob& job) const {
  const UpdateSet updates(job.updates, weights_);
  const Compaction compaction = compaction_of_round(compaction_, job.is_last);
  const Carry carry(job.carry_in);
  std::set<std::string> modules;
  for (const auto& [name, size] : updates.modules()) modules.insert(name);
  carry.add_modules_to(modules);
  CarryWriter next_carry(job.carry_out);
  tensors::FactorSetWriter output(job.output);
  const bool compacts = compaction.kind != CompactionKind::None;
  StackBuffer buffer(compacts ? at::kDouble : at::kFloat);
  AggregationReport report{.exactness = {}, .lowered = updates.lowered()};
  CutError error;

  for (const std::string& name : modules) {
    std::vector<ScaledFactors> terms;
    if (updates.modules().contains(name)) {
      for (const auto& [factors, share] : updates.module(name)) {
        if (factors.rank() > 0) terms.push_back({factors, share});
      }
    }
    carry.append_to(terms, name);
    const Compacted compacted = compact_sum(terms, compaction, buffer);
    output.add_module(name, compacted.factors);
    if (compacted.has_tail()) next_carry.add(name, compacted.tail);
    report.stack_rank = std::max(report.stack_rank, compacted.report.stack_rank);
    report.compact_rank = std::max(report.compact_rank, compacted.report.kept_rank);
    error.add(compacted.report);
    updates.forget_pages();
  }
  for (const auto& [name, shape] : updates.dense()) {
    output.add_dense(name, updates.mean_dense(name));
  }
  next_carry.finish();
  output.finish();
  report.carries = next_carry.has_content();
  report.relative_error = error.relative();
  report.exactness = exactness_of(compaction, report.carries, report.relative_error);
  return report;
}

}  // namespace drystone::aggregation
