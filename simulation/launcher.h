#pragma once
// What a launcher of parallel programs tells in the environment.

#include <cstdint>

namespace drystone::simulation {

/// Processes that mpirun or srun started together; 1: none of them started this one.
std::int64_t num_launched();

}  // namespace drystone::simulation
