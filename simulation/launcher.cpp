#include "simulation/launcher.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>

namespace drystone::simulation {

namespace {

std::int64_t number_in(const char* variable) {
  const char* const found = std::getenv(variable);  // NOLINT(concurrency-mt-unsafe): nobody sets it
  const std::string_view text = found == nullptr ? "" : found;
  std::int64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

}  // namespace

std::int64_t num_launched() {
  std::int64_t most = 1;
  // Open MPI; MPICH, Intel MPI and srun with PMI; srun, whatever it offers. Not SLURM_NTASKS: a
  // batch script has it as well.
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    most = std::max(most, number_in(variable));
  }
  return most;
}

}  // namespace drystone::simulation
