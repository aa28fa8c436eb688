#pragma once
// The commands of `drystone`, one file each. A command declares its options on a subcommand and
// returns what to do when it was chosen.

#include <functional>
#include <stop_token>

#include "core/program.h"

namespace CLI {
class App;
}  // namespace CLI

namespace drystone::cli {

/// Runs after the command line was parsed. @return exit status
using Command = std::function<int(const core::CommonOptions&, const std::stop_token&)>;

Command add_simulate(CLI::App& app);
Command add_evaluate(CLI::App& app);
Command add_generate(CLI::App& app);
Command add_inspect(CLI::App& app);
Command add_export(CLI::App& app);
Command add_merge(CLI::App& app);
Command add_keys(CLI::App& app);
Command add_provision(CLI::App& app);
Command add_tokenize(CLI::App& app);

}  // namespace drystone::cli
