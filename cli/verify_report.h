#pragma once
// report.json against the signed record: what of it can be known from elsewhere.

#include <span>
#include <string>

#include "cli/version_chain.h"
#include "core/config.h"

namespace drystone::cli {

/// @param versions  all of the run, ascending
/// @throws Wrong  a figure differs from what the clients and evaluators signed, from what was
///         recomputed, or from the chain
void check_report(const std::string& report_json, const core::Config& config,
                  std::span<const VersionFacts> versions);

}  // namespace drystone::cli
