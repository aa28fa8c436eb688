#pragma once
// What a session needs to compute: one shared base model, its tokenizer and the encoded examples.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aggregation/layout.h"
#include "core/config.h"
#include "core/error.h"
#include "data/cut_texts.h"
#include "data/record.h"
#include "data/sequence_encoder.h"
#include "training/evaluator.h"
#include "training/global_model.h"
#include "training/memory_plan.h"
#include "training/trainer.h"
#include "training/training_group.h"

namespace drystone::training {

struct WorkbenchConfig {
  core::ModelConfig model;
  std::vector<std::string> labels;     ///< class names in id order; classification only
  data::SequenceOptions sequences;     ///< causal LM: how records become sequences
  std::string device = "auto";         ///< auto | cpu | cuda | cuda:N
  bool packing = false;                ///< causal LM: several examples a row in training
  std::int64_t evaluation_batch = 64;  ///< examples
  std::int64_t memory_limit = 0;       ///< bytes, of evaluations; 0: none
  std::uint64_t seed = 0;            ///< of what the checkpoint lacks: the head that all start from
  std::int64_t max_member_rank = 0;  ///< of an ensemble's members: see MemberStates
};

/// What a training takes, told before it runs.
struct TrainingMemory {
  MemoryFixed fixed;
  MemoryPlan plan;
};

/// Records as a model sees them.
struct EncodedRecords {
  data::Dataset dataset;
  /// By record: its example in `dataset`; std::nullopt: max_length leaves nothing to learn in it.
  std::vector<std::optional<std::size_t>> examples;
  std::vector<std::size_t> num_lost;  ///< by record: tokens that max_length cut
};

/// Of whoever has no example to learn from.
core::ConfigError nothing_to_learn(const std::string& name, const core::ModelConfig& model);

/// Loads the base once; every training or evaluation gets its own model instance, made on demand,
/// whose frozen weights are the shared ones. `train` and `evaluate` are const and may run in
/// several threads at the same time with the same bits as one after the other; everything else
/// belongs to the owner and must be done first.
class Workbench {
 public:
  /// @throws core::ConfigError  no usable model or tokenizer at the path, unknown task or device,
  ///                            or a base that is not the pinned one (model.sha256)
  explicit Workbench(WorkbenchConfig config);
  ~Workbench();
  Workbench(const Workbench&) = delete;
  Workbench& operator=(const Workbench&) = delete;

  /// Encodes and keeps examples under a name: a client's for `train`, any name for `evaluate`.
  /// Causal LM: examples in which max_length leaves nothing to learn are left out.
  /// @return what max_length took, for data::warn
  /// @throws core::ConfigError  no records, or one whose label is not a configured class (for
  ///                            regression: a number), with its position
  data::Shortened add_examples(const std::string& name, const std::vector<data::Record>& records);
  /// The same with examples that are encoded already, by `encode` or `sequences()`. Any thread.
  void add_dataset(const std::string& name, data::Dataset examples);
  /// Nobody uses them any more. Any thread.
  void remove_examples(const std::string& name);
  /// As add_examples would encode them, without keeping them.
  /// @param name  whose they are, for messages about records of no file
  EncodedRecords encode(const std::string& name, const std::vector<data::Record>& records) const;
  /// Causal LM: what turns records into examples. @throws core::InvalidArgument  another task
  const data::SequenceEncoder& sequences() const;
  /// @throws core::InvalidArgument  no such name
  std::int64_t num_examples(const std::string& name) const;

  /// SHA-256 (hex) over the base checkpoint's files (config.json, then the weights), hashed when
  /// the workbench was made.
  const std::string& base_sha256() const;
  /// "cpu", "cuda:0".
  std::string device() const;
  /// Whether the model draws masks of its own in training.
  bool has_dropout() const;
  /// The most memory that training has taken so far: models::peak_memory of its device.
  std::uint64_t peak_memory() const;
  /// What updates of clients with these settings, and versions that come of them, may contain:
  /// every module that one of them adapts or that the first version brings, and the head; of
  /// ensembles each member's as well.
  /// @throws core::ConfigError  as adapters::validate and match_linears
  aggregation::AdapterLayout layout(const std::vector<core::TrainingConfig>& trainings,
                                    const tensors::FactorSet& first_version) const;

  /// The state before version 0.
  GlobalStatePtr pristine() const;

  /// How a training would fit training.memory_limit, which must be set. Of a method that keeps more
  /// than LoRA does it tells LoRA's. @throws core::ConfigError  not even one row fits
  TrainingMemory training_memory(const std::string& examples,
                                 const core::TrainingConfig& training) const;

  /// Computes with the training's threads. nullopt: stopped by the token.
  /// @throws core::Error  e.g. a loss that is not finite
  std::optional<LocalResult> train(const RoundTask& task, const TrainHooks& hooks = {}) const;
  /// Several at once, as train_group; of one state, precision and number of threads.
  struct GroupTraining {
    RoundTask task;
    TrainHooks hooks = {};
  };
  std::vector<GroupOutcome> train_group(const std::vector<GroupTraining>& trainings) const;
  /// Of a state with members: their averaged probabilities. nullopt: stopped by the token.
  std::optional<Evaluation> evaluate(const GlobalState& state, const std::string& examples,
                                     const EvaluateHooks& hooks = {}) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace drystone::training
