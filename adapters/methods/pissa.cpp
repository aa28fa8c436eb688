#include "adapters/methods/pissa.h"

#include <algorithm>
#include <memory>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/sqrt.h>

#include "adapters/methods/spectral.h"
#include "core/error.h"

namespace drystone::adapters {

namespace {

Triplets principal(const models::Linear& linear, const AdapterSpec& spec,
                   const AdapterStart& start) {
  const std::int64_t most = smaller_side(linear.out_features(), linear.in_features());
  if (spec.rank > most) {
    throw core::ConfigError("training.rank: " + std::to_string(spec.rank) + " is more than the " +
                            std::to_string(most) + " singular values of " + linear.name);
  }
  const at::Tensor weight = dense_weight(linear);
  if (text(spec, "svd") == "exact") return largest_triplets(weight, spec.rank);
  const std::string purpose = "pissa-svd/" + linear.name;
  return randomised_triplets(weight, spec.rank, integer(spec, "iterations"),
                             {.seed = start.seed, .purpose = purpose});
}

std::unique_ptr<Adapter> make_pissa(models::Model& model, const AdapterSpec& spec,
                                    const AdapterStart& start) {
  return std::make_unique<SideAdapter<PissaLayer>>(model, spec, start);
}

}  // namespace

PissaLayer::PissaLayer(const models::Linear& linear, const AdapterSpec& spec,
                       const AdapterStart& start)
    : SidePath(linear, lora_scale(spec), spec, start) {
  const at::NoGradGuard no_grad;
  const Triplets triplets = principal(linear, spec, start);
  const at::Tensor root = at::sqrt(triplets.sigma / scale());
  a0_ = placed(root.unsqueeze(1) * triplets.v.t(), linear);
  b0_ = placed(triplets.u * root, linear);
  a_ = make_leaf(a0_, linear);
  b_ = make_leaf(b0_, linear);
}

Pair PissaLayer::pair() const {
  return {.a = at::cat({a_, a_ - a0_}, /*dim=*/0), .b = at::cat({b_ - b0_, b0_}, /*dim=*/1)};
}

std::vector<Parameter> PissaLayer::parameters() const {
  return {{.name = module() + ".lora_A", .tensor = a_},
          {.name = module() + ".lora_B", .tensor = b_}};
}

std::vector<MethodOption> pissa_options() {
  return {{.name = "svd",
           .default_value = std::string("randomised"),
           .help = "how W's principal part is found",
           .choices = {"randomised", "exact"}},
          {.name = "iterations",
           .default_value = std::int64_t{16},
           .help = "subspace iterations of the randomised SVD",
           .least = 0,
           .most = 1000}};
}

std::int64_t pissa_export_rank(const AdapterSpec& spec) { return 2 * spec.rank; }

Method pissa_method() {
  return {.name = "pissa",
          .summary =
              "LoRA from W's principal singular triplets (Meng et al., 2024, "
              "arXiv:2404.02948)",
          .options = pissa_options(),
          .make = make_pissa,
          .export_rank = pissa_export_rank,
          .rank_limit = smaller_side};
}

}  // namespace drystone::adapters
