#pragma once
// One task of the comparison: a base model, its texts, and the budget that every method gets.

#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "adapters/method.h"
#include "bench/methods/run_file.h"
#include "core/config.h"
#include "models/load.h"
#include "training/workbench.h"

namespace drystone::comparison {

inline constexpr const char* kValidation = "validation";
inline constexpr const char* kTest = "test";

/// One client that trains for federation.rounds rounds; each update is applied as a server applies
/// that of its only client. `run` may be called from several threads.
class Task {
 public:
  /// @param config      a federation's; [training] is the budget, a [[clients]] entry with a
  ///                    `method` gives that method's options
  /// @param validation  texts of data.train that are kept apart for choosing the learning rate
  /// @throws core::ConfigError, core::IoError
  Task(core::Config config, std::int64_t validation);

  const core::Config& config() const { return config_; }
  const std::string& name() const { return config_.name; }

  /// The method's settings at the rank whose number of trained parameters is closest to LoRA's at
  /// training.rank; alpha keeps its ratio to the rank.
  core::TrainingConfig settings_for(const adapters::Method& method) const;
  /// Of the adapter, without the head. @throws core::ConfigError  the method does not fit the model
  std::int64_t num_parameters(const core::TrainingConfig& training) const;

  /// Names a run by everything that it is a function of, but for the program itself.
  std::string key(const core::TrainingConfig& training, std::uint64_t seed,
                  const std::string& examples) const;
  /// Numbers: the metrics of `examples` after the last round; bytes (of all updates), steps,
  /// passes, start_seconds (until the first step, all rounds) and step_seconds, of processor time.
  /// @return nullopt: stopped
  std::optional<Outcome> run(const core::TrainingConfig& training, std::uint64_t seed,
                             const std::string& examples, const std::stop_token& stop) const;
  /// The metrics before any training.
  Outcome evaluate_start(const std::string& examples) const;

 private:
  void load_examples(std::int64_t validation);

  core::Config config_;
  training::Workbench workbench_;
  models::ModelSpec spec_;
  models::Base base_;  ///< a second one, for counting parameters
  training::GlobalStatePtr start_;
};

}  // namespace drystone::comparison
