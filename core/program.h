#pragma once
// What the main() of every program shares: common options, exit codes, signals.
//
//   int main(int argc, char** argv) {
//     return core::run_program([&](std::stop_token stop) {
//       core::CommandLine line("What it does.", "drystone-client");
//       core::CommonOptions common;
//       core::add_common_options(line, common);
//       if (const auto status = line.parse(argc, argv)) return *status;
//       core::init_log(core::parse_log_level(common.log_level));
//       …
//       return 0;
//     });
//   }

#include <chrono>
#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>

#include "core/command_line.h"

namespace drystone::core {

inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;      ///< while running
inline constexpr int kWrongUsage = 2;  ///< command line or configuration

/// "0.1.0"
std::string version();

struct CommonOptions {
  std::string log_level = "info";
  std::int64_t threads = 0;     ///< compute threads; 0: the program decides
  std::string device = "auto";  ///< auto | cpu | cuda | cuda:N, checked for form only
};

/// Declares --version, --log-level, --threads and --device. Call it for the program and for every
/// command, so that each --help shows them; `options` outlives the parsing.
void add_common_options(CommandLine& line, CommonOptions& options);

/// Does the program's work and returns its exit status. Should end soon after a stop request.
using ProgramBody = std::function<int(std::stop_token)>;

/// Runs `body` and maps what it throws to one line `drystone: error: …` on stderr and an exit
/// status: ConfigError 2, everything else 1. SIGINT and SIGTERM request a stop through the token
/// and make the status 130 or 143; a second signal ends the process at once. Call it first in
/// main(), before any thread starts: threads inherit the signal mask.
int run_program(const ProgramBody& body);

/// Goes on when nobody reads its output any more, as when `| head` has ended: for programs that do
/// more than print.
void outlive_readers();

/// What the process makes from here on is for its user alone (umask 077): data, state, logs.
void keep_files_private();

/// Waits for `duration`; false as soon as a stop is requested.
bool sleep_unless_stopped(const std::stop_token& stop, std::chrono::milliseconds duration);

}  // namespace drystone::core
