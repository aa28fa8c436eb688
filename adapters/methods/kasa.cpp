// KaSA: knowledge-aware singular-value adaptation (Wang et al., 2024, arXiv:2412.06071).

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/diag.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include "adapters/method.h"
#include "adapters/methods/lora.h"
#include "adapters/methods/orthonormality.h"
#include "adapters/methods/spectral.h"
#include "adapters/side_path.h"
#include "core/error.h"
#include "models/gemm.h"

namespace drystone::adapters {

namespace {

/// Triplets that go: the r smallest; as the authors' program counts, none of a wide weight.
std::int64_t truncated_rank(const models::Linear& linear, const AdapterSpec& spec) {
  const std::int64_t smaller = std::min(linear.out_features(), linear.in_features());
  const std::int64_t chosen = integer(spec, "truncation_rank");
  const std::int64_t rank = chosen > 0 ? chosen : spec.rank;
  if (rank >= smaller) {
    throw core::ConfigError(
        "training." + std::string(chosen > 0 ? "options.truncation_rank" : "rank") + ": " +
        std::to_string(rank) + " would leave nothing of " + linear.name + ", which has " +
        std::to_string(smaller) + " singular values; use a smaller one");
  }
  if (text(spec, "truncation") == "smallest") return rank;
  return std::max<std::int64_t>(0, smaller - (linear.in_features() - rank));
}

/// y = (W − T)·x + s·B·diag(σ)·A·x, T the weakest part of the pre-trained W.
class KasaLayer final : public SidePath {
 public:
  KasaLayer(const models::Linear& linear, const AdapterSpec& spec, const AdapterStart& start)
      : SidePath(linear, lora_scale(spec), spec, start) {
    const at::NoGradGuard no_grad;
    a_ = make_leaf(fresh_a(start, linear.name, spec.rank, linear.in_features()), linear);
    b_ = make_leaf(at::zeros({linear.out_features(), spec.rank}, at::kFloat), linear);
    const at::Tensor sigma = first_sigma(linear, spec, start);
    is_full_ = text(spec, "core") == "full";
    sigma_ = make_leaf(is_full_ ? at::diag(sigma) : sigma, linear);
    truncate(linear, spec, start);
  }

  /// T beside the trained factors in one product, or where those have a mask on their input, apart.
  at::Tensor forward(const models::Linear& base, const models::LayerInput& x) override {
    at::Tensor y = SidePath::forward(base, x);
    if (!tail_.b.defined() || !drops()) return y;
    const at::ScalarType dtype = x.value.scalar_type();
    const at::Tensor thin = models::linear(x.value, tail_.a.to(dtype), {});
    return y - models::linear(thin, tail_.b.to(dtype), {});
  }
  std::vector<SideTerm> terms(at::ScalarType dtype) override {
    std::vector<SideTerm> all = SidePath::terms(dtype);
    if (!tail_.b.defined() || !drops()) return all;
    all.push_back({.pair = {.a = tail_.a.to(dtype), .b = tail_.b.to(dtype)}, .scale = -1.0});
    return all;
  }
  Pair pair() const override {
    Pair now = trained();
    if (!tail_.b.defined() || drops()) return now;
    return {.a = at::cat({now.a, tail_.a}, /*dim=*/0),
            .b = at::cat({now.b, scaled_tail_}, /*dim=*/1)};
  }
  std::vector<Parameter> parameters() const override {
    return {{.name = module() + ".lora_A", .tensor = a_},
            {.name = module() + ".lora_B", .tensor = b_},
            {.name = module() + ".lora_sigma", .tensor = sigma_}};
  }
  tensors::Factors factors() const override {
    const Pair now = trained();
    if (!tail_.b.defined()) return exported(now.b, now.a, scale());
    return exported(at::cat({now.b * scale(), -tail_.b}, /*dim=*/1),
                    at::cat({now.a, tail_.a}, /*dim=*/0), 1.0);
  }

  const at::Tensor& a() const { return a_; }
  const at::Tensor& b() const { return b_; }
  const at::Tensor& sigma() const { return sigma_; }

 private:
  Pair trained() const { return {.a = a_, .b = is_full_ ? at::mm(b_, sigma_) : b_ * sigma_}; }

  static at::Tensor first_sigma(const models::Linear& linear, const AdapterSpec& spec,
                                const AdapterStart& start) {
    if (text(spec, "start") == "ones") return at::ones({spec.rank}, at::kFloat);
    const std::string purpose = "kasa-sigma/" + linear.name;
    return nested_normal({start.seed, start.round, start.client, purpose}, spec.rank, 1).flatten();
  }

  /// Once: of a weight that no version has touched. What was published holds the truncation.
  void truncate(const models::Linear& linear, const AdapterSpec& spec, const AdapterStart& start) {
    const std::int64_t rank = truncated_rank(linear, spec);
    if (!start.is_pristine(linear) || rank == 0) return;
    const SpectralTail tail = smallest_part(dense_weight(linear), rank);
    tail_ = {.a = placed(tail.a, linear), .b = placed(tail.b, linear)};
    scaled_tail_ = placed(tail.b / -scale(), linear);
  }

  at::Tensor a_, b_, sigma_;
  Pair tail_;               // undefined: nothing is truncated
  at::Tensor scaled_tail_;  // −T's B over the scale, beside the trained one
  bool is_full_ = false;
};

class Kasa final : public SideAdapter<KasaLayer> {
 public:
  Kasa(models::Model& model, const AdapterSpec& spec, const AdapterStart& start)
      : SideAdapter(model, spec, start),
        beta_(number(spec, "beta")),
        gamma_(number(spec, "gamma")),
        distance_(text(spec, "orthogonality") == "reference" ? GramDistance::Large
                                                             : GramDistance::Norm) {
    if (text(spec, "reduction") == "mean") {
      beta_ /= static_cast<double>(layers_.size());
      gamma_ /= static_cast<double>(layers_.size());
    }
  }

  at::Tensor extra_loss(const LossContext&) override {
    std::vector<at::Tensor> as;
    std::vector<at::Tensor> bs;
    std::vector<at::Tensor> sigmas;
    for (const KasaLayer& layer : layers_) {
      as.push_back(layer.a());
      bs.push_back(layer.b());
      sigmas.push_back(layer.sigma().flatten());
    }
    at::Tensor sum;
    if (beta_ > 0.0) add_term(sum, at::cat(sigmas).square().sum() * beta_);
    if (gamma_ > 0.0) add_term(sum, off_orthonormality(as, bs, distance_) * gamma_);
    return sum;
  }

 private:
  double beta_;
  double gamma_;
  GramDistance distance_;
};

std::unique_ptr<Adapter> make_kasa(models::Model& model, const AdapterSpec& spec,
                                   const AdapterStart& start) {
  return std::make_unique<Kasa>(model, spec, start);
}

std::int64_t kasa_export_rank(const AdapterSpec& spec) {
  const std::int64_t truncated = integer(spec, "truncation_rank");
  return spec.rank + (truncated > 0 ? truncated : spec.rank);
}

}  // namespace

Method kasa_method() {
  return {.name = "kasa",
          .summary =
              "trained singular values beside a truncated base (Wang et al., 2024, "
              "arXiv:2412.06071)",
          .options = {{.name = "beta",
                       .default_value = 1e-4,
                       .help = "weight of the squared singular values",
                       .least = 0.0,
                       .most = 1e6},
                      {.name = "gamma",
                       .default_value = 1e-3,
                       .help = "weight of the distance from orthonormality",
                       .least = 0.0,
                       .most = 1e6},
                      {.name = "core",
                       .default_value = std::string("diagonal"),
                       .help = "what stands between B and A",
                       .choices = {"diagonal", "full"}},
                      {.name = "orthogonality",
                       .default_value = std::string("paper"),
                       .help = "Gram matrices of the term: r x r, or as in the authors' program",
                       .choices = {"paper", "reference"}},
                      {.name = "reduction",
                       .default_value = std::string("sum"),
                       .help = "of both terms over modules (the authors' program: mean)",
                       .choices = {"sum", "mean"}},
                      {.name = "truncation",
                       .default_value = std::string("smallest"),
                       .help = "which triplets go; the authors' program keeps all of a wide weight",
                       .choices = {"smallest", "reference"}},
                      {.name = "truncation_rank",
                       .default_value = std::int64_t{0},
                       .help = "triplets that go; 0: the rank",
                       .least = 0,
                       .most = 1e6},
                      {.name = "start",
                       .default_value = std::string("normal"),
                       .help = "of the singular values: N(0, 1), or 1",
                       .choices = {"normal", "ones"}}},
          .make = make_kasa,
          .export_rank = kasa_export_rank};
}

}  // namespace drystone::adapters
