#include "models/encoder/bert.h"

#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/embedding.h>

#include "core/text.h"
#include "models/encoder/encoder_parts.h"

namespace drystone::models {

struct Bert::Flavour {
  std::string prefix;
  HeadPlan head;
  std::optional<std::int64_t> padding_id;
};

namespace {

void refuse_relative_positions(const HfConfig& config) {
  const std::string positions = config.text_or("position_embedding_type", "absolute");
  if (positions != "absolute") {
    config.fail("position_embedding_type",
                core::quote(positions) + " is not supported; only absolute is");
  }
}

double classifier_dropout(const HfConfig& config) {
  return config.probability_or("classifier_dropout",
                               config.probability_or("hidden_dropout_prob", 0.1));
}

/// What positions count on from.
std::int64_t padding_of(const HfConfig& config) {
  constexpr const char* kKey = "pad_token_id";
  const std::int64_t id = config.integer_or(kKey, 1);
  if (config.says_none(kKey) || id < 0) {
    config.fail(kKey, "must be an id: this family's positions count on from it");
  }
  return id;
}

/// padding_id + 1, + 2, … in every row for tokens that are not the padding's; those get padding_id.
at::Tensor positions_after(std::int64_t padding_id, const Packing& packing) {
  const at::Tensor counts = packing.ids.ne(padding_id).to(at::kLong);
  const at::Tensor seen = counts.cumsum(0);
  const at::Tensor row_start =
      at::arange(packing.num_tokens(), packing.ids.options()) - packing.positions;
  const at::Tensor before_row = (seen - counts).index_select(0, row_start);
  return (seen - before_row) * counts + padding_id;
}

}  // namespace

Bert::Bert(const ModelSpec& spec, const HfConfig& config, const Weights& weights)
    : Bert(spec, config, weights,
           {.prefix = "bert.",
            .head = {.dense = "bert.pooler.dense",
                     .out = "classifier",
                     .output_dropout = classifier_dropout(config)},
            .padding_id = std::nullopt}) {}

Bert::Bert(const ModelSpec& spec, const HfConfig& config, const Weights& weights,
           const Flavour& flavour)
    : Encoder(EncoderConfig::from(config), spec.task), padding_id_(flavour.padding_id) {
  refuse_relative_positions(config);
  EncoderParts parts(spec, config, config_, weights, flavour.prefix);
  const std::int64_t hidden = config_.hidden_size;
  word_embeddings_ = parts.table("word", config_.vocab_size, hidden);
  position_embeddings_ = parts.table("position", config_.max_positions, hidden);
  token_type_embeddings_ = parts.table("token_type", config.size_or("type_vocab_size", 2), hidden);
  embedding_norm_ = parts.norm(flavour.prefix + "embeddings.LayerNorm");
  for (std::int64_t i = 0; i < config_.num_layers; ++i) layers_.push_back(parts.layer(i));
  head_ = parts.head(flavour.head);
  parts.finish();
}

at::Tensor Bert::embed(const Packing& packing) {
  check_length(packing, config_.max_positions - (padding_id_ ? *padding_id_ + 1 : 0));
  const at::Tensor positions =
      padding_id_ ? positions_after(*padding_id_, packing) : packing.positions;
  const at::Tensor sum = at::embedding(word_embeddings_, packing.ids)
                             .add_(packing.types_of(token_type_embeddings_))
                             .add_(at::embedding(position_embeddings_, positions));
  return apply_dropout(embedding_norm_.forward(sum).value, next_dropout(config_.hidden_dropout));
}

Roberta::Roberta(const ModelSpec& spec, const HfConfig& config, const Weights& weights)
    : Bert(spec, config, weights, [&] {
        // Before the strings are made: g++ 12 destroys them twice when a later member throws.
        const std::int64_t padding = padding_of(config);
        const double dropout = classifier_dropout(config);
        return Flavour{.prefix = "roberta.",
                       .head = {.dense = "classifier.dense",
                                .out = "classifier.out_proj",
                                .input_dropout = dropout,
                                .output_dropout = dropout,
                                .dense_is_classifier = true},
                       .padding_id = padding};
      }()) {}

std::unique_ptr<Model> build_bert(const ModelSpec& spec, const Base& base) {
  return std::make_unique<Bert>(spec, base.config, base.weights);
}

std::unique_ptr<Model> build_roberta(const ModelSpec& spec, const Base& base) {
  return std::make_unique<Roberta>(spec, base.config, base.weights);
}

}  // namespace drystone::models
