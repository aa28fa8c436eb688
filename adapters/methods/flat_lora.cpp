#include "adapters/methods/flat_lora.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <string>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include "adapters/lora_linear.h"
#include "adapters/methods/lora.h"
#include "core/seed.h"
#include "models/gemm.h"
#include "tensors/philox.h"

namespace drystone::adapters {

namespace {

/// ‖W_i‖² of every row.
at::Tensor row_squares(const models::FrozenWeight& weight, const at::Tensor& like,
                       std::int64_t out_features) {
  at::Tensor squares = at::empty({out_features}, like.options());
  weight.visit_rows([&](std::int64_t first, const at::Tensor& rows) {
    squares.narrow(0, first, rows.size(0)).copy_(rows.square().sum(/*dim=*/1));
  });
  return squares;
}

class FlatLayer final : public LoraLayer {
 public:
  FlatLayer(const models::Linear& linear, const AdapterSpec& spec, const AdapterStart& start)
      : LoraLayer(linear, spec, start, lora_scale(spec)),
        seed_(start.seed),
        round_(start.round),
        client_(start.client) {
    const at::NoGradGuard no_grad;
    weight_ = linear.frozen();
    squares_ = row_squares(*weight_, a_.detach(), linear.out_features());
  }

  at::Tensor forward(const models::Linear& base, const models::LayerInput& x) override {
    if (!perturbed_) return LoraLayer::forward(base, x);
    const at::ScalarType dtype = x.value.scalar_type();
    return lora_linear(x, perturbed_, base.bias, a_.to(dtype), b_.to(dtype), scale(),
                       next_dropout());
  }

  /// Until the step's end the weight is another one, the same for all its micro-batches.
  void perturb(std::int64_t step, double sigma) {
    if (sigma == 0.0) return;
    const at::NoGradGuard no_grad;
    const at::Tensor norms =
        adapted_row_norms(*weight_, squares_, {.a = a_.detach(), .b = b_.detach()}, scale());
    const std::string purpose = "flat-noise/" + std::to_string(step) + "/" + module();
    const double width = std::sqrt(static_cast<double>(a_.size(1)));
    perturbed_ = c10::make_intrusive<PerturbedWeight>(
        weight_, norms * (sigma / width), core::stream_seed({seed_, round_, client_, purpose}));
  }
  void restore() { perturbed_.reset(); }

 private:
  std::uint64_t seed_;
  std::uint64_t round_;
  std::string client_;
  models::FrozenWeightPtr weight_;
  at::Tensor squares_;
  models::FrozenWeightPtr perturbed_;  ///< within a step
};

class FlatLora final : public SideAdapter<FlatLayer> {
 public:
  FlatLora(models::Model& model, const AdapterSpec& spec, const AdapterStart& start)
      : SideAdapter(model, spec, start),
        rho_(number(spec, "rho")),
        schedule_(text(spec, "schedule")),
        round_(static_cast<double>(std::max<std::uint64_t>(start.round, 1))),
        rounds_(std::max(static_cast<double>(start.rounds), round_)) {}

  void before_step(const Step& step) override {
    SideAdapter::before_step(step);
    const auto total = static_cast<double>(std::max<std::int64_t>(step.total, 1));
    const double within = static_cast<double>(step.index) / total;
    const double sigma = flat_sigma(schedule_, rho_, (round_ - 1.0 + within) / rounds_);
    for (FlatLayer& layer : layers_) layer.perturb(step.index, sigma);
  }
  std::vector<SidePath*> side_paths() override { return {}; }  // the weight is another one
  void after_step(const Step& step) override {
    for (FlatLayer& layer : layers_) layer.restore();
    SideAdapter::after_step(step);
  }

 private:
  double rho_;
  std::string schedule_;
  double round_;   ///< 1-based
  double rounds_;  ///< of the federation; unknown: this one is the last
};

std::unique_ptr<Adapter> make_flat_lora(models::Model& model, const AdapterSpec& spec,
                                        const AdapterStart& start) {
  return std::make_unique<FlatLora>(model, spec, start);
}

}  // namespace

double flat_sigma(std::string_view schedule, double rho, double progress) {
  if (schedule == "constant") return rho;
  return rho * 0.5 * (1.0 - std::cos(std::numbers::pi * std::clamp(progress, 0.0, 1.0)));
}

at::Tensor adapted_row_norms(const models::FrozenWeight& weight, const at::Tensor& squares,
                             const Pair& pair, double scale) {
  const at::NoGradGuard no_grad;
  const at::Tensor gram = at::mm(pair.a, pair.a.t());
  at::Tensor sums = squares + (at::mm(pair.b, gram) * pair.b).sum(/*dim=*/1) * (scale * scale);
  weight.visit_rows([&](std::int64_t first, const at::Tensor& rows) {
    const at::Tensor b = pair.b.narrow(0, first, rows.size(0));
    const at::Tensor cross = models::linear_forward(rows, pair.a, {});
    sums.narrow(0, first, rows.size(0)).add_((cross * b).sum(/*dim=*/1), 2.0 * scale);
  });
  return sums.clamp_min_(0.0).sqrt_();
}

PerturbedWeight::PerturbedWeight(models::FrozenWeightPtr weight, at::Tensor deviations,
                                 std::uint64_t key)
    : FrozenWeight(at::Tensor()),
      weight_(std::move(weight)),
      deviations_(std::move(deviations)),
      key_(key) {}

void PerturbedWeight::visit_perturbed(at::ScalarType dtype, const RowVisitor& visit) const {
  const at::NoGradGuard no_grad;
  weight_->visit_rows([&](std::int64_t first, const at::Tensor& rows) {
    const at::Tensor noise =
        tensors::philox_normal(key_, first, rows.size(0), rows.size(1), rows.device())
            .to(rows.scalar_type());
    const at::Tensor deviations = deviations_.narrow(0, first, rows.size(0)).unsqueeze(1);
    visit(first, noise.mul_(deviations).add_(rows).to(dtype));
  });
}

at::Tensor PerturbedWeight::forward(const at::Tensor& x, const at::Tensor& bias) const {
  at::Tensor y = at::empty({x.size(0), deviations_.size(0)}, x.options());
  visit_perturbed(x.scalar_type(), [&](std::int64_t first, const at::Tensor& rows) {
    const at::Tensor own =
        bias.defined() ? bias.narrow(0, first, rows.size(0)).to(x.scalar_type()) : at::Tensor();
    y.narrow(1, first, rows.size(0)).copy_(models::linear_forward(x, rows, own));
  });
  return y;
}

at::Tensor PerturbedWeight::backward_input(const at::Tensor& gradient) const {
  at::Tensor dx;
  visit_perturbed(gradient.scalar_type(), [&](std::int64_t first, const at::Tensor& rows) {
    const at::Tensor part = gradient.narrow(1, first, rows.size(0));
    const at::Tensor product = models::linear_backward_input(part.contiguous(), rows);
    dx = dx.defined() ? dx.add_(product) : models::at_least_float(product);  // a sum of many
  });
  return dx.to(gradient.scalar_type());
}

Method flat_lora_method() {
  return {.name = "flat-lora",
          .summary = "LoRA under noise on the frozen weight (Li et al., 2025, arXiv:2409.14396)",
          .options = {{.name = "rho",
                       .default_value = 0.05,
                       .help = "deviation of the noise relative to the rows' root mean square",
                       .least = 0.0,
                       .most = 10.0},
                      {.name = "schedule",
                       .default_value = std::string("cosine"),
                       .help = "course of the deviation over the whole federation",
                       .choices = {"cosine", "constant"}}},
          .make = make_flat_lora,
          .continues = true};
}

}  // namespace drystone::adapters
