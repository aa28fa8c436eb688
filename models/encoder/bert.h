#pragma once
// BERT (Devlin et al., 2019, arXiv:1810.04805) and RoBERTa (Liu et al., 2019, arXiv:1907.11692),
// with sequence-classification heads.

#include <cstdint>
#include <memory>
#include <optional>

#include <ATen/core/Tensor.h>

#include "models/encoder/encoder.h"
#include "models/hf_config.h"
#include "models/model_spec.h"

namespace drystone::models {

/// transformers' BertForSequenceClassification: its head is the pooler (tanh of a linear layer) and
/// the classifier.
class Bert : public Encoder {
 public:
  Bert(const ModelSpec& spec, const HfConfig& config, const Weights& weights);

 protected:
  struct Flavour;
  Bert(const ModelSpec& spec, const HfConfig& config, const Weights& weights,
       const Flavour& flavour);

 private:
  at::Tensor embed(const Packing& packing) final;

  at::Tensor word_embeddings_;
  at::Tensor position_embeddings_;
  at::Tensor token_type_embeddings_;
  LayerNorm embedding_norm_;
  std::optional<std::int64_t> padding_id_;  ///< RoBERTa: positions count on from it
};

/// transformers' RobertaForSequenceClassification (XLM-RoBERTa's and CamemBERT's too). Differs in
/// the positions, which count from padding_id + 1 and leave out every token that is the padding's,
/// and in the head, all of which is the classifier (classifier.dense, classifier.out_proj).
class Roberta final : public Bert {
 public:
  Roberta(const ModelSpec& spec, const HfConfig& config, const Weights& weights);
};

/// Rows of the table in load.cpp.
std::unique_ptr<Model> build_bert(const ModelSpec& spec, const Base& base);
std::unique_ptr<Model> build_roberta(const ModelSpec& spec, const Base& base);

}  // namespace drystone::models
