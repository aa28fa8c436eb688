#pragma once
// A method on a task: the learning rate from a grid on validation texts, then the test texts with
// several seeds.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "bench/methods/run_file.h"
#include "bench/methods/task.h"

namespace drystone::comparison {

struct Plan {
  std::int64_t grid = 3;    ///< learning rates around training.learning_rate
  double factor = 3.0;      ///< from one to the next
  std::int64_t extend = 1;  ///< further ones at most, while the best lies at an end of the grid
  std::int64_t seeds = 3;   ///< of the test; the grid has a seed of its own
};

/// What became of a method.
struct Row {
  core::TrainingConfig settings;
  std::int64_t num_parameters = 0;
  std::map<double, Outcome> grid;  ///< by learning rate, on validation texts
  double rate = 0.0;               ///< the best of them
  std::vector<Outcome> tests;      ///< by seed
  std::string problem;             ///< why the method cannot be compared; empty: it was
};

/// Told of each run that was not in the file.
using RunHook = std::function<void(const core::TrainingConfig&, const std::string& examples,
                                   std::uint64_t seed, const Outcome&)>;

/// @return nullopt: stopped
std::optional<Row> compare(const Task& task, const adapters::Method& method, const Plan& plan,
                           RunFile& runs, const RunHook& on_run, const std::stop_token& stop);

}  // namespace drystone::comparison
