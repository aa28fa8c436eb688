// In the place of mpi_link.cpp where there is no MPI.

#include <string>

#include "core/error.h"
#include "simulation/launcher.h"
#include "simulation/link.h"

namespace drystone::simulation {

std::unique_ptr<Link> open_link() {
  const std::int64_t num_processes = num_launched();
  if (num_processes == 1) return nullptr;
  throw core::ConfigError(
      "started as one of " + std::to_string(num_processes) +
      " processes, but built without MPI; install libopenmpi-dev, configure with "
      "-DDRYSTONE_MPI=ON and build again, or start one process");
}

}  // namespace drystone::simulation
