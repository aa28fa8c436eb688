#pragma once
// The commands of `drystone`, one file each. A command declares its options on a subcommand and
// returns what to do when it was chosen.

#include <functional>
#include <stop_token>

#include "core/program.h"

namespace drystone::cli {

/// Runs after the command line was parsed. @return exit status
using Command = std::function<int(const core::CommonOptions&, const std::stop_token&)>;

Command add_simulate(core::CommandLine& line);
Command add_evaluate(core::CommandLine& line);
Command add_generate(core::CommandLine& line);
Command add_inspect(core::CommandLine& line);
Command add_export(core::CommandLine& line);
Command add_merge(core::CommandLine& line);
Command add_keys(core::CommandLine& line);
Command add_provision(core::CommandLine& line);
Command add_preflight(core::CommandLine& line);
Command add_status(core::CommandLine& line);
Command add_tokenize(core::CommandLine& line);

}  // namespace drystone::cli
