#include "adapters/kasa.h"

#include <algorithm>
#include <memory>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/diag.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/zeros.h>

#include "adapters/lora.h"
#include "adapters/side_path.h"
#include "adapters/spectral.h"
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
    const std::string purpose = "kasa-sigma/" + linear.name;
    const at::Tensor sigma =
        nested_normal({start.seed, start.round, start.client, purpose}, spec.rank, 1).flatten();
    is_full_ = text(spec, "core") == "full";
    sigma_ = make_leaf(is_full_ ? at::diag(sigma) : sigma, linear);
    truncate(linear, spec, start);
  }

  at::Tensor forward(const models::Linear& base, const at::Tensor& x) override {
    const at::Tensor y = SidePath::forward(base, x);
    if (!tail_.b.defined()) return y;
    const at::ScalarType dtype = x.scalar_type();
    const at::Tensor thin = models::linear(x, tail_.a.to(dtype), {});
    return y - models::linear(thin, tail_.b.to(dtype), {});  // outside of the dropout
  }
  Pair pair() const override { return {.a = a_, .b = is_full_ ? at::mm(b_, sigma_) : b_ * sigma_}; }
  std::vector<Parameter> parameters() const override {
    return {{.name = module() + ".lora_A", .tensor = a_},
            {.name = module() + ".lora_B", .tensor = b_},
            {.name = module() + ".lora_sigma", .tensor = sigma_}};
  }
  tensors::Factors factors() const override {
    const Pair now = pair();
    if (!tail_.b.defined()) return exported(now.b, now.a, scale());
    return exported(at::cat({now.b * scale(), -tail_.b}, /*dim=*/1),
                    at::cat({now.a, tail_.a}, /*dim=*/0), 1.0);
  }

  at::Tensor squared_sigma() const { return sigma_.square().sum(); }
  at::Tensor orthogonality(bool as_reference) const {
    return off_orthonormality(b_, a_, as_reference);
  }

 private:
  /// Once: of a weight that no version has touched. What was published holds the truncation.
  void truncate(const models::Linear& linear, const AdapterSpec& spec, const AdapterStart& start) {
    const std::int64_t rank = truncated_rank(linear, spec);
    if (!start.is_pristine(linear) || rank == 0) return;
    const SpectralTail tail = smallest_part(dense_weight(linear), rank);
    tail_ = {.a = placed(tail.a, linear), .b = placed(tail.b, linear)};
  }

  at::Tensor a_, b_, sigma_;
  Pair tail_;  // undefined: nothing is truncated
  bool is_full_ = false;
};

class Kasa final : public SideAdapter<KasaLayer> {
 public:
  Kasa(models::Model& model, const AdapterSpec& spec, const AdapterStart& start)
      : SideAdapter(model, spec, start),
        beta_(number(spec, "beta")),
        gamma_(number(spec, "gamma")),
        as_reference_(text(spec, "orthogonality") == "reference") {
    if (text(spec, "reduction") == "mean") {
      beta_ /= static_cast<double>(layers_.size());
      gamma_ /= static_cast<double>(layers_.size());
    }
  }

  at::Tensor extra_loss(const LossContext&) override {
    at::Tensor sum;
    for (const KasaLayer& layer : layers_) {
      if (beta_ > 0.0) add_term(sum, layer.squared_sigma() * beta_);
      if (gamma_ > 0.0) add_term(sum, layer.orthogonality(as_reference_) * gamma_);
    }
    return sum;
  }

 private:
  double beta_;
  double gamma_;
  bool as_reference_;
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

at::Tensor off_orthonormality(const at::Tensor& b, const at::Tensor& a, bool as_reference) {
  const auto distance = [as_reference](const at::Tensor& rows) {
    const at::Tensor off = at::mm(rows, rows.t()) - at::eye(rows.size(0), rows.options());
    if (!as_reference) return at::linalg_vector_norm(off);
    return at::sqrt(off.square().sum() + static_cast<double>(rows.size(1) - rows.size(0)));
  };
  return distance(b.t()) + distance(a);
}

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
                       .most = 1e6}},
          .make = make_kasa,
          .export_rank = kasa_export_rank};
}

}  // namespace drystone::adapters
