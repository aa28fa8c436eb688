#pragma once
// A process that trains what process 0 of the simulation gives it, and writes nothing to the run
// folder.

#include <filesystem>
#include <stop_token>
#include <string>

#include "core/config.h"
#include "simulation/link.h"

namespace drystone::simulation {

struct HelperOptions {
  std::filesystem::path scratch;  ///< an empty folder, for what is on its way
  std::string device = "auto";
  std::stop_token stop;
};

/// Returns when process 0 has ended. @throws core::Error  see tell_trouble
void help(core::Config config, Link& link, const HelperOptions& options);

/// Has process 0 end the run for this reason, and waits for that.
void tell_trouble(Link& link, const std::string& reason);

}  // namespace drystone::simulation
