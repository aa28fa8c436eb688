#pragma once
// An adapter of smaller rank, and what that costs: programs that serve adapters have limits.

#include <cstdint>
#include <string>

#include "core/command_line.h"
#include "tensors/factors.h"

namespace drystone::cli {

/// What to keep of each module, by its largest singular values.
struct AdapterCut {
  std::int64_t rank = 0;   ///< most columns; 0: any number
  double tolerance = 0.0;  ///< most that may go, relative to the module's ‖ΔW‖; 0: all stays

  bool cuts() const { return rank > 0 || tolerance > 0.0; }
};

/// --rank and --tolerance, of which one may be given.
void add_cut_options(core::CommandLine& line, AdapterCut& cut);

struct CutReport {
  std::int64_t rank_before = 0;  ///< largest over the modules
  std::int64_t rank_after = 0;
  double relative_error = 0.0;  ///< ‖what was cut‖ / ‖adapter‖ over all modules, Frobenius
  double worst_error = 0.0;     ///< of one module, relative to it
  std::string worst_module;

  /// One line for people.
  std::string text() const;
};

/// Cuts each module's factors in place (aggregation/compaction.h); dense parts stay.
/// @throws core::InvalidArgument  a factor is not finite
CutReport cut_adapter(tensors::FactorSet& adapter, const AdapterCut& cut);

}  // namespace drystone::cli
