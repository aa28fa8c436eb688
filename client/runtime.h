#pragma once
// A deployed client: session, transport and computing, until the federation ends.

#include <stop_token>
#include <string>

#include "core/config.h"
#include "core/progress.h"

namespace drystone::client {

enum class RunEnd { Done, Stopped };

/// Connects to security.coordinator, trains and evaluates as asked, and reconnects as long as it
/// takes. State (payloads in transfer) lies in output.dir, so that a restart resumes transfers; at
/// the end the final model's published factors are there. A client that has seen the end in an
/// earlier life is done once its coordinator welcomes it, or after ten seconds without one.
/// @param device  auto | cpu | cuda[:N]
/// @throws core::ConfigError  keys, model or data that cannot be used, with the remedy
/// @throws core::Error        a coordinator that contradicts itself, or a training that failed
RunEnd run_client(const core::Config& config, const std::string& device, core::ProgressBoard& board,
                  const std::stop_token& stop);

}  // namespace drystone::client
