#pragma once
// A trained model with its (A, B) pairs kept apart, so that the inputs of each factor and the
// gradients at its outputs are in reach: what curvatures and Jacobians are made of.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "adapters/method.h"

namespace drystone::adapters {

/// y = x·Wᵀ + bias + (x·Aᵀ)·Bᵀ + (x·A₂ᵀ)·B₂ᵀ: the first `rank` components are observed, the others
/// are part of the function only.
class ObservedLayer final : public models::LinearAdapter {
 public:
  /// @param factors  the whole ΔW; fewer components than `rank` are filled up with zeros
  ObservedLayer(const models::Linear& linear, const tensors::Factors& factors, std::int64_t rank);

  at::Tensor forward(const models::Linear& base, const models::LayerInput& input) override;

  const std::string& module() const { return module_; }
  bool is_observed() const { return a_.size(0) > 0; }
  const at::Tensor& a() const { return a_; }  ///< [rank, in]
  const at::Tensor& b() const { return b_; }  ///< [out, rank]
  /// Other values of the factors, of the same shapes: the function elsewhere.
  void set(at::Tensor a, at::Tensor b);

  /// One use of the layer in a pass; with autograd record: hidden = x·Aᵀ, output = hidden·Bᵀ.
  struct Use {
    at::Tensor input;   ///< [positions, in] detached
    at::Tensor hidden;  ///< [..., rank]
    at::Tensor output;  ///< [..., out]
  };
  /// Of the last pass with autograd, in the order in which the model came by.
  const std::vector<Use>& uses() const { return uses_; }
  void start_pass() { uses_.clear(); }

  /// Of all uses, one below the other: [positions, in] and [positions, rank], detached.
  /// @throws core::ConfigError  the model did not come by
  at::Tensor input() const;
  at::Tensor flat_hidden() const;

 private:
  std::string module_;
  at::Tensor a_;
  at::Tensor b_;
  tensors::Factors fixed_;  ///< undefined: nothing
  std::vector<Use> uses_;
};

/// A classifier's last linear layer: logits = W·h + bias.
struct Head {
  std::string name;    ///< of the weight, e.g. "classifier.weight"
  at::Tensor* weight;  ///< [classes, features]: the model's handle
  at::Tensor* bias;    ///< [classes]; nullptr: none

  /// Width of [h; 1], or of h without a bias.
  std::int64_t in_features() const { return weight->size(1) + (bias != nullptr ? 1 : 0); }
  /// [rows, features] → [rows, in_features()]
  at::Tensor augmented(const at::Tensor& features) const;
  /// [W, bias] detached: [classes, in_features()]
  at::Tensor parameters() const;
};
/// nullopt: a language model.
std::optional<Head> find_head(models::Model& model);

/// Which of a flattened activation's positions hold tokens, and whose.
struct Places {
  at::Tensor kept;                 ///< [n] int64; undefined: all
  std::vector<std::int64_t> rows;  ///< [n] row of the batch

  /// The positions that hold tokens. @param flat  [positions, width]
  at::Tensor of(const at::Tensor& flat) const;
};
/// A row alone without padding owns every position.
/// @param activation  [positions, width], or [rows, tokens, width]
/// @throws core::InvalidArgument  neither one position a token, nor one a row, nor one a target
Places places_of(const at::Tensor& activation, const models::Batch& batch);

/// The model with its factors observed. Nothing is trained; the model's own dropout must be off.
class ObservedModel : public Adapter {
 public:
  std::vector<Parameter> parameters() const override { return {}; }
  std::map<std::string, tensors::Factors> export_delta() const override { return {}; }

 protected:
  /// Layers for every module of start.factors; those of spec.target_modules are observed.
  /// @throws core::ConfigError  no start.factors, or a target that has none
  ObservedModel(models::Model& model, const AdapterSpec& spec, const AdapterStart& start);

  /// The batch as it can be observed: whole; or row by row, without padding, where rows share what
  /// a layer is used on (DeBERTa's relative positions), so that its gradients would be their sum.
  std::vector<models::Batch> parts_of(const models::Batch& batch);

  struct Pass {
    at::Tensor logits;    ///< [rows or targets, classes], fp32 at least, with autograd record
    at::Tensor features;  ///< [rows, features]: the head's input; undefined without a head
  };
  Pass forward(const models::Batch& batch);

  struct Gradients {
    std::vector<at::Tensor> hidden;  ///< of each observed layer, by its hidden [positions, rank]
    std::vector<at::Tensor> output;  ///< by its output [positions, out]
  };
  /// Of Σ weights · logits. @param last  frees the record
  Gradients gradients(const at::Tensor& logits, const at::Tensor& weights, bool last) const;

  models::Model& model() { return model_; }
  const std::vector<ObservedLayer*>& observed() const { return observed_; }
  const std::optional<Head>& head() const { return head_; }

 private:
  at::Tensor features(const models::Batch& batch);
  bool shares_uses(const models::Batch& batch);

  models::Model& model_;
  std::deque<ObservedLayer> layers_;  // addresses stay: the linears point at them
  std::vector<ObservedLayer*> observed_;
  std::optional<Head> head_;
  std::optional<bool> shares_uses_;  ///< known from the first batch on
};

}  // namespace drystone::adapters
