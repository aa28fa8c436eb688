#pragma once
// report.json against the signed record: what of it can be known from elsewhere.

#include <span>
#include <string>

#include "cli/version_chain.h"
#include "core/config.h"

namespace drystone::cli {

/// @param config    nullptr: not known; name and seed are not looked at
/// @param versions  all of the run, ascending, at least one
/// @throws Wrong  not such a report, or a figure differs from what the clients and evaluators
///         signed, from what was recomputed, or from the chain
void check_report(const std::string& report_json, const core::Config* config,
                  std::span<const VersionFacts> versions);

/// @param kept  the state's rows, one a round, as JSON
/// @throws Wrong  not such a report, or a round is another than the state's
void compare_rounds(const std::string& report_json, std::span<const std::string> kept);

}  // namespace drystone::cli
