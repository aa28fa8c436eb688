#pragma once
// How the encoder families take their parts from a checkpoint.

#include <cstdint>
#include <string>

#include "models/encoder/encoder.h"
#include "models/model_spec.h"
#include "models/weights.h"

namespace drystone::models {

/// Names of a head's two layers, and what else fixes it.
struct HeadPlan {
  std::string dense;
  std::string out;
  Activation activation = Activation::Tanh;
  double input_dropout = 0.0;
  double output_dropout = 0.0;
  bool dense_is_classifier = false;  ///< it always trains, as in RoBERTa
};

/// Missing or misshapen parts are noted and reported together by `finish`.
class EncoderParts {
 public:
  /// @param prefix  the base model's, e.g. "bert."; all arguments are borrowed
  EncoderParts(const ModelSpec& spec, const HfConfig& file, const EncoderConfig& config,
               const Weights& weights, std::string prefix);

  const std::string& prefix() const { return prefix_; }
  /// `prefix` + "embeddings.NAME_embeddings.weight", [rows, width].
  at::Tensor table(const std::string& name, std::int64_t rows, std::int64_t width);
  at::Tensor tensor(const std::string& name, at::IntArrayRef shape);
  Linear linear(const std::string& name, std::int64_t out, std::int64_t in, bool has_bias = true);
  /// Over the hidden size.
  LayerNorm norm(const std::string& name);
  /// `prefix` + "encoder.layer.INDEX.…"; the projections' names end with `suffix` ("" or "_proj").
  EncoderLayer layer(std::int64_t index, const std::string& suffix = "");
  /// The checkpoint's head where it fits the task's labels, else drawn.
  EncoderHead head(const HeadPlan& plan);

  /// @throws core::ConfigError  something was missing
  void finish() const;

 private:
  Linear drawn(const std::string& name, std::int64_t out, std::int64_t in) const;
  Linear classifier(const std::string& name);

  const ModelSpec& spec_;
  const HfConfig& file_;
  const EncoderConfig& config_;
  std::string prefix_;
  WeightReader reader_;
};

}  // namespace drystone::models
