#pragma once
// Fits a training into a given memory: how many rows a pass may take, and whether layers are
// computed again. From shapes alone, so that the choice, and with it every bit of the result, is
// the same wherever the training runs.

#include <cstdint>
#include <optional>

#include "core/config.h"
#include "models/model.h"
#include "training/examples.h"

namespace drystone::training {

/// What is there whatever the batch.
struct MemoryFixed {
  std::int64_t base = 0;      ///< the weights, shared by all instances in a process
  std::int64_t rounded = 0;   ///< their copies in bfloat16
  std::int64_t versions = 0;  ///< published versions on top of them
  std::int64_t adapter = 0;   ///< parameters, gradients, optimiser, what the method keeps
  std::int64_t data = 0;

  std::int64_t next_version = 0;  ///< between rounds, in place of a pass: the one being added

  /// With the program and its libraries, without next_version.
  std::int64_t total() const;
};

/// @param model            with its adapters
/// @param base_bytes       of all weights; 0: counts the linear layers'
/// @param parameter_bytes  of everything that is trained
MemoryFixed fixed_memory(models::Model& model, const Examples& examples, std::int64_t base_bytes,
                         std::int64_t parameter_bytes);

/// The rows of passes, in the largest form that the data have.
struct PassLimits {
  std::int64_t rows = 1;        ///< of a mini-batch
  std::int64_t row_tokens = 1;  ///< of the longest row
  std::int64_t longest = 1;     ///< tokens of the longest sample: several may share a row
};
PassLimits pass_limits(const Examples& examples, std::int64_t batch_size);

struct MemoryPlan {
  std::int64_t rows = 0;        ///< of the longest length that a pass may take; 0: not even one
  std::int64_t max_tokens = 0;  ///< rows · row_tokens
  bool checkpointing = false;
  std::int64_t pass_bytes = 0;  ///< upper estimate, of such a pass
  std::int64_t total_bytes = 0;
};

/// What one pass of `rows` rows takes. @param training  its rank and dropout
std::int64_t pass_memory(models::Model& model, const core::TrainingConfig& training,
                         const PassLimits& limits, std::int64_t rows, bool checkpointing,
                         bool keeps_logits);

/// Whole mini-batches where they fit; else parts of them; else parts with layers computed again.
/// Layers are computed again before parts become so small that products are slow.
/// @throws core::ConfigError  one row does not fit; names what it needs and the remedies
MemoryPlan plan_memory(models::Model& model, const core::TrainingConfig& training,
                       const PassLimits& limits, const MemoryFixed& fixed, bool keeps_logits);

/// Rows that an evaluation may take at once, at most `limits.rows` and at least one.
std::int64_t evaluation_rows(models::Model& model, std::int64_t memory_limit,
                             const PassLimits& limits, const MemoryFixed& fixed);

}  // namespace drystone::training
