#pragma once
// A base model with an adapter on it and its tokenizer, as drystone evaluate needs them.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/batches.h"
#include "data/dataset.h"
#include "data/label_map.h"
#include "data/sequence_encoder.h"
#include "evaluation/adapted_model.h"
#include "evaluation/measurement.h"
#include "models/likelihood.h"
#include "models/model.h"
#include "text/tokenizer.h"

namespace drystone::evaluation {

class EvaluatedModel {
 public:
  /// A head is never drawn: it is the adapter's (with a posterior or an ensemble theirs) or the
  /// checkpoint's.
  /// @param num_labels  1 for tasks without classes
  /// @throws core::ConfigError  no such head; a --max-length beyond the positions; as load_base
  EvaluatedModel(const EvaluateOptions& options, models::Task task, std::int64_t num_labels);

  models::Model& model() const { return *model_.model; }
  const text::Tokenizer& tokenizer() const { return *tokenizer_; }
  /// Of the embeddings; 0: not known.
  std::int64_t num_rows() const { return model_.limits.tokens; }
  /// @throws core::ConfigError  an id that the model has no row for
  void check_ids(std::span<const text::TokenId> ids, const std::string& where) const;
  /// Records → sequences, by the options' template.
  data::SequenceEncoder sequence_encoder() const;

  /// Calls `body` with every batch of the data set, longest first, without autograd record.
  /// `encoded.examples` says of which examples. @return  false: stopped
  using Body = std::function<void(const data::EncodedBatch& encoded, const models::Batch& batch)>;
  bool for_each_batch(const data::Dataset& dataset, const MeasureHooks& hooks,
                      const Body& body) const;
  /// Σ ln p of each example's labelled tokens, in the data set's order; empty: stopped.
  std::vector<models::Likelihood> likelihoods(const data::Dataset& dataset,
                                              const MeasureHooks& hooks) const;

 private:
  const EvaluateOptions& options_;
  models::Task task_;
  AdaptedModel model_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
};

/// Records of the options' data file, at most max_examples. @throws as data::RecordReader
std::vector<data::Record> read_examples(const EvaluateOptions& options,
                                        const data::RecordFields& fields);

/// --labels, else the classes of the head that is measured (client::model_classes).
/// @throws core::ConfigError  there is no head, or the data has classes that it does not name
std::vector<std::string> class_names(const EvaluateOptions& options);

/// The data file's texts with their labels. @param classes  nullptr: regression
/// @throws core::ConfigError  a label that is none; as read_examples
data::Dataset labelled_examples(const EvaluateOptions& options, const EvaluatedModel& model,
                                const data::LabelMap* classes);

/// The data file as sequences, without those in which max_length leaves nothing to predict.
struct LabelledSequences {
  data::Dataset dataset;
  std::vector<std::size_t> kept;  ///< of the records
  std::size_t num_records = 0;
};
/// @throws core::ConfigError  none is left
LabelledSequences labelled_sequences(const EvaluateOptions& options, const EvaluatedModel& model);

}  // namespace drystone::evaluation
