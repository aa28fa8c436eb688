#pragma once
// Mini-batches of similar length in a keyed random order, and the sorted order of evaluation.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/seed.h"
#include "data/dataset.h"
#include "data/packing.h"

namespace drystone::data {

/// Rows padded on the right to the longest of them.
struct EncodedBatch {
  std::int64_t rows = 0;
  std::int64_t tokens = 0;              ///< width: length of the longest row
  std::vector<std::int64_t> input_ids;  ///< [rows, tokens], row-major
  std::vector<std::int64_t> lengths;    ///< [rows]; what follows in a row is padding
  std::vector<std::int64_t> labels;     ///< [rows] class ids
  std::vector<float> targets;           ///< [rows] regression
  /// [rows, tokens] token types of sentence pairs, 1 from the second text on and 0 at padding;
  /// empty where all are 0.
  std::vector<std::int64_t> type_ids;
  /// Causal LM: [rows, tokens], −100 at padding; empty for other tasks.
  std::vector<std::int64_t> token_labels;
  /// Causal LM with several samples a row: [rows, tokens], number of the sample within its row;
  /// empty when every row is one sample.
  std::vector<std::int64_t> segments;
  /// Numbers of the examples in the data set, row by row: [rows], more with several a row.
  std::vector<std::size_t> examples;
};

/// Fills `batch` with `examples` in that order, reusing its memory.
void fill_batch(const Dataset& dataset, std::span<const std::size_t> examples, text::TokenId pad,
                EncodedBatch& batch);

/// The same with several examples a row: segments are filled, labels and targets stay empty.
void fill_batch(const Dataset& dataset, const PackedRows& packed, std::span<const std::size_t> rows,
                text::TokenId pad, EncodedBatch& batch);

/// The batch's rows in their order, in parts of at most `max_tokens` places (rows · width, each
/// part as wide as its longest row) and at least one row each. 0: one part.
std::vector<EncodedBatch> split_rows(EncodedBatch batch, std::int64_t max_tokens);

/// All rows in order, padded to the widest batch.
EncodedBatch join_rows(std::span<const EncodedBatch* const> batches, text::TokenId pad);

struct BatchOptions {
  std::int64_t batch_size = 16;
  std::int64_t epochs = 1;       ///< 0: for ever
  std::int64_t max_batches = 0;  ///< 0: no limit
  text::TokenId pad = 0;
  /// Causal LM: examples share rows of this many tokens (pack_rows), batch_size counts rows; 0: one
  /// example a row.
  std::int64_t pack_to = 0;
};

/// Batches for training. Each epoch visits every example once: shuffled, cut into megabatches (32
/// batches, fewer on small data so that an epoch has four), each of them sorted by length and cut
/// into batches, the batches shuffled. So rows of a batch have similar lengths and little is
/// padding. The epoch's one incomplete batch is kept. With pack_to all this holds of the rows,
/// which are packed once. The order depends on the key and the lengths only.
class TrainingBatches {
 public:
  /// `dataset` must outlive the object.
  /// @param key  by convention {seed, round, client, "batches"}
  /// @throws core::InvalidArgument  no examples, batch_size < 1, a negative bound, or an example
  ///                                longer than pack_to
  TrainingBatches(const Dataset& dataset, const BatchOptions& options, const core::StreamKey& key);

  /// Number of batches that next() gives in all; absent if there is no bound. For schedules.
  std::optional<std::int64_t> total() const;
  std::int64_t per_epoch() const;

  /// @return false when the epochs or max_batches are over
  bool next(EncodedBatch& batch);

 private:
  void start_epoch();
  std::size_t num_rows() const { return packed_ ? packed_->size() : dataset_.size(); }
  std::size_t length(std::size_t row) const {
    return packed_ ? packed_->length(row) : dataset_.length(row);
  }

  const Dataset& dataset_;
  BatchOptions options_;
  std::optional<PackedRows> packed_;
  core::SplitMix64 random_;
  std::vector<std::size_t> order_;   ///< of the epoch's rows; batches are cut from it
  std::vector<std::size_t> starts_;  ///< of the batches in order_, in the order of their turn
  std::size_t next_start_ = 0;
  std::int64_t given_ = 0;
};

/// Every example once, longest first: least padding, and the largest batch shows at once whether it
/// fits into memory.
class EvaluationBatches {
 public:
  /// `dataset` must outlive the object. @throws core::InvalidArgument  batch_size < 1
  EvaluationBatches(const Dataset& dataset, std::int64_t batch_size, text::TokenId pad);

  std::int64_t total() const;
  /// @return false at the end
  bool next(EncodedBatch& batch);

 private:
  const Dataset& dataset_;
  std::size_t batch_size_;
  text::TokenId pad_;
  std::vector<std::size_t> order_;
  std::size_t position_ = 0;
};

}  // namespace drystone::data
