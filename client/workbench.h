#pragma once
// What a session needs to compute: one shared base model, its tokenizer and the encoded examples.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/evaluator.h"
#include "client/global_model.h"
#include "client/trainer.h"
#include "core/config.h"

namespace drystone::client {

struct WorkbenchConfig {
  core::ModelConfig model;
  std::vector<std::string> labels;     ///< class names in id order; classification only
  std::string device = "auto";         ///< auto | cpu | cuda | cuda:N
  std::int64_t evaluation_batch = 64;  ///< examples
};

/// One local training. Its randomness (A's start, data order, dropout) is keyed by seed, round and
/// client alone, so a round that is planned again gives the same update.
struct TrainRequest {
  std::uint64_t seed = 0;
  std::uint64_t round = 0;
  std::string client;  ///< names the shard as well
  core::TrainingConfig training;
  GlobalStatePtr state;
};

/// Loads the base once; every training or evaluation gets its own model instance, made on demand,
/// whose frozen weights are the shared ones. `train` and `evaluate` are const and may run in several
/// threads at the same time with the same bits as one after the other; everything else belongs to
/// the owner and must be done first.
class Workbench {
 public:
  /// @throws core::ConfigError  no usable model or tokenizer at the path, unknown task or device
  explicit Workbench(WorkbenchConfig config);
  ~Workbench();
  Workbench(const Workbench&) = delete;
  Workbench& operator=(const Workbench&) = delete;

  /// Encodes and keeps examples under a name: a client's for `train`, any name for `evaluate`.
  /// @param texts   one text an example
  /// @param labels  class names, or numbers in text form for regression
  /// @throws core::ConfigError  a label that is not among the configured ones (with its row)
  void add_examples(const std::string& name, const std::vector<std::string>& texts,
                    const std::vector<std::string>& labels);
  std::int64_t num_examples(const std::string& name) const;

  /// SHA-256 (hex) of the base checkpoint's tensors file.
  std::string base_sha256() const;
  /// "cpu", "cuda:0".
  std::string device() const;
  /// Shapes of the dense parts that are trained beside the adapters (the head).
  std::map<std::string, std::vector<std::int64_t>> dense_shapes() const;

  /// The state before version 0.
  GlobalStatePtr pristine() const;

  /// nullopt: stopped by the token. @throws core::Error  e.g. a loss that is not finite
  std::optional<LocalResult> train(const TrainRequest& request, const TrainHooks& hooks = {}) const;
  /// nullopt: stopped by the token.
  std::optional<Evaluation> evaluate(const GlobalState& state, const std::string& examples,
                                     const EvaluateHooks& hooks = {}) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace drystone::client
