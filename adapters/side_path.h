#pragma once
// What the methods share that add a low-rank side path to a linear: placement on the device, keyed
// dropout, export. A method says how its pair (A, B) follows from its leaves, and little else.

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

#include "adapters/method.h"
#include "core/seed.h"
#include "models/dropout.h"

namespace drystone::adapters {

/// ΔW = scale · B · A, the scale kept apart.
struct Pair {
  at::Tensor a;  ///< [rank, in]
  at::Tensor b;  ///< [out, rank]
};

/// scale · (drop(x)·Aᵀ)·Bᵀ beside a frozen layer; both factors of x's type.
struct SideTerm {
  Pair pair;
  /// [rank] int64: A picks these columns of x, and dropout is on what was picked; pair.a is
  /// undefined then.
  at::Tensor columns = {};
  double scale = 1.0;
  models::Dropout dropout;
};

/// The linear's weight [out, in] as a matrix of its own: the handle, or the sum of what a quantised
/// linear holds.
at::Tensor dense_weight(const models::Linear& linear);

/// A copy on the linear's device: fp32, or fp64 on an fp64 base.
at::Tensor placed(const at::Tensor& values, const models::Linear& linear);
/// The same as a leaf that is trained.
at::Tensor make_leaf(const at::Tensor& values, const models::Linear& linear);

/// Standard normal [rows, columns] fp32, drawn row by row: fewer rows are the first of more.
at::Tensor nested_normal(const core::StreamKey& key, std::int64_t rows, std::int64_t columns);

/// alpha / rank
double lora_scale(const AdapterSpec& spec);
/// alpha / √rank
double rslora_scale(const AdapterSpec& spec);

/// The side path of one linear: y = x·Wᵀ + bias + scale · (drop(x)·Aᵀ)·Bᵀ.
class SidePath : public models::LinearAdapter {
 public:
  SidePath(const models::Linear& linear, double scale, const AdapterSpec& spec,
           const AdapterStart& start);

  at::Tensor forward(const models::Linear& base, const models::LayerInput& x) override;
  core::SplitMix64* masks() override { return &masks_; }
  /// What `forward` would add to the base now, for a pass that other adapters share.
  virtual std::vector<SideTerm> terms(at::ScalarType dtype);

  /// The effective factors, computed from the leaves so that autograd reaches them.
  virtual Pair pair() const = 0;
  virtual std::vector<Parameter> parameters() const = 0;
  /// ΔW relative to the linear's weight; default: pair() with the scale in B. Called without
  /// gradients. Rank 0: nothing was learnt.
  virtual tensors::Factors factors() const;

  /// The masks of a step are a function of its index: one draw for each forward between the two.
  void start_step(std::int64_t index);
  void end_step() { drops_ = false; }

  const std::string& module() const { return module_; }
  double scale() const { return scale_; }

 protected:
  /// The next forward's mask; inactive outside of steps.
  models::Dropout next_dropout();
  /// Whether forwards draw masks now.
  bool drops() const { return drops_; }

 private:
  std::string module_;
  double scale_;
  models::ProductForm form_;
  models::Dropout dropout_;
  bool drops_ = false;
  core::SplitMix64 masks_;
};

/// B and A as an update holds them: detached, contiguous, fp32, CPU, own storage.
tensors::Factors exported(const at::Tensor& b, const at::Tensor& a, double scale);

/// sum += term, where sum may still be undefined.
void add_term(at::Tensor& sum, const at::Tensor& term);

/// An adapter whose layers are all of one kind.
/// @tparam Layer  a SidePath made from (linear, spec, start, extra …)
template <typename Layer>
class SideAdapter : public Adapter {
 public:
  template <typename... Extra>
  SideAdapter(models::Model& model, const AdapterSpec& spec, const AdapterStart& start,
              const Extra&... extra) {
    for (models::Linear* linear : match_linears(model, spec.target_modules)) {
      layers_.emplace_back(*linear, spec, start, extra...);
      slots_.add(*linear, layers_.back());
    }
    slots_.take();
  }

  std::vector<SidePath*> side_paths() override {
    std::vector<SidePath*> all;
    for (Layer& layer : layers_) all.push_back(&layer);
    return all;
  }
  std::vector<Parameter> parameters() const override {
    std::vector<Parameter> all;
    for (const Layer& layer : layers_) {
      for (Parameter& parameter : layer.parameters()) all.push_back(std::move(parameter));
    }
    return all;
  }
  void before_step(const Step& step) override {
    for (Layer& layer : layers_) layer.start_step(step.index);
  }
  void after_step(const Step&) override {
    for (Layer& layer : layers_) layer.end_step();
  }
  std::map<std::string, tensors::Factors> export_delta() const override {
    const at::NoGradGuard no_grad;
    std::map<std::string, tensors::Factors> delta;
    for (const Layer& layer : layers_) {
      tensors::Factors factors = layer.factors();
      if (factors.rank() > 0) delta.emplace(layer.module(), std::move(factors));
    }
    return delta;
  }

 protected:
  std::deque<Layer> layers_;  // addresses stay: the linears point at them
};

}  // namespace drystone::adapters
