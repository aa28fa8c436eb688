#pragma once
// A whole federation in one process: the coordinator, gate, store and client sessions of a
// deployment, over the in-process transport, with the training on a pool of threads.

#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "coordinator/coordinator.h"
#include "core/config.h"
#include "simulation/link.h"
#include "simulation/slot_training.h"

namespace drystone::simulation {

struct SimulationOptions {
  std::filesystem::path run_dir;  ///< resumes when its state/ is of the same federation
  std::string device = "auto";
  std::stop_token stop;  ///< finishes the write in hand, keeps the state
  Link* link = nullptr;  ///< to processes that help; this one is process 0
  TrainSlot train = simulation::train;
};

struct SimulationOutcome {
  coordinator::RunReport report;
  bool stopped = false;  ///< by the token; the state can be resumed
  std::optional<std::string> failure;
};

/// Runs until the federation is over and writes the run folder. Equal to the deployed federation of
/// the same configuration, bit for bit on the same kind of device.
/// @throws core::ConfigError, core::IoError  before the first round
SimulationOutcome simulate(core::Config config, const SimulationOptions& options,
                           std::vector<coordinator::Observer*> observers = {});

}  // namespace drystone::simulation
