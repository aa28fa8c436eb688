#pragma once
// A model linearised around trained LoRA factors, and the posterior over them that the sums of
// adapters/posterior/laplace_lora.h describe (Yang et al., 2024, arXiv:2308.13111).

#include <map>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "adapters/posterior/kronecker.h"
#include "adapters/posterior/laplace_lora.h"
#include "adapters/posterior/observed_layers.h"

namespace drystone::adapters {

/// What the sums of a finished pass say about one model.
struct Curvature {
  TensorMap statistics;  ///< means over examples, without prefix
  double num_examples = 0.0;
  SketchPlan plan;
};

/// Which parameters a posterior is over; the others keep their values.
enum class Uncertain {
  Factors,  ///< A and B of every observed module
  Head,     ///< the classifier's last layer: the last-layer variant
  All
};

/// A step of the factors by block name: "MODULE.lora_A" [rank, in], "MODULE.lora_B" [out, rank].
using Direction = TensorMap;

/// The model, linearised around its parameters.
class Linearisation final : public ObservedModel {
 public:
  /// As the model's only adapter. @throws core::ConfigError  as ObservedModel
  Linearisation(models::Model& model, const AdapterSpec& spec, const AdapterStart& start)
      : ObservedModel(model, spec, start) {}

  bool is_classifier() const { return head().has_value(); }
  /// @throws core::ConfigError  a statistic is missing or misshapen, or a language model's head
  KroneckerPosterior posterior(const Curvature& curvature, Uncertain which) const;

  struct Query {
    const KroneckerPosterior* posterior;
    std::vector<double> precisions;
  };
  struct Answer {
    at::Tensor mean;                      ///< [rows, classes] fp64 on CPU
    std::vector<at::Tensor> covariances;  ///< of each query: [precisions, rows, classes, classes]
  };
  /// A classifier's logits and their covariances under each posterior and precision. One backward
  /// pass a class.
  Answer predict(const models::Batch& batch, std::span<const Query> queries);
  /// A language model's Σ log p of each row's labelled tokens, as the logits of one example whose
  /// classes are the rows (answers to one question). One backward pass.
  Answer predict_choices(const models::Batch& batch, std::span<const Query> queries);

  /// Logits without autograd record: [rows or targets, classes], fp32 at least.
  at::Tensor logits(const models::Batch& batch);
  /// J·δ of those logits for all classes at once, by a central difference of two forward passes of
  /// length h·‖θ̂‖ in δ's direction, h = ∛ε of the arithmetic (6e-6 in fp64, 5e-3 in fp32): what
  /// truncation and rounding leave is about h² of the result.
  /// @param direction  as the observed factors, not zero
  /// @throws core::ConfigError  the model computes in 16 bits, whose rounding is all one would see
  at::Tensor slope(const models::Batch& batch, const Direction& direction);

 private:
  using Jacobians = std::map<std::string, at::Tensor>;  // [rows, passes, out, in] by block
  Answer predict_part(const models::Batch& batch, std::span<const Query> queries);
  Jacobians jacobians(const models::Batch& batch, const Pass& pass,
                      std::span<const at::Tensor> weights);
  at::Tensor displaced(const models::Batch& batch, const Direction& direction, double length);
};

/// A draw from the posterior over factors, less its mean; fp32 on CPU.
Direction draw_direction(const KroneckerPosterior& posterior, double precision,
                         const core::StreamKey& key);

}  // namespace drystone::adapters
