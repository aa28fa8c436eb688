#include "adapters/methods/rac_lora.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/zeros.h>

#include "adapters/side_path.h"
#include "adapters/split_optimizer.h"
#include "core/check.h"
#include "core/error.h"

namespace drystone::adapters {

namespace {

/// Where the sketch stands: right, A is fixed and B is trained; left, the other way round.
enum class Side { Left, Right };

Side side_of(const AdapterSpec& spec, const AdapterStart& start) {
  const std::string& side = text(spec, "side");
  if (side == "alternating") return start.round % 2 == 0 ? Side::Left : Side::Right;
  return side == "left" ? Side::Left : Side::Right;
}

/// A chain of blocks: those that are merged, and the one that is trained.
class RacLayer final : public SidePath {
 public:
  RacLayer(const models::Linear& linear, const AdapterSpec& spec, const AdapterStart& start)
      : SidePath(linear, lora_scale(spec), spec, start),
        side_(side_of(spec, start)),
        sketch_(text(spec, "sketch") == "gaussian" ? Sketch::Gaussian : Sketch::Orthonormal),
        rank_(spec.rank),
        fixed_size_(side_ == Side::Right ? linear.in_features() : linear.out_features()),
        start_{.seed = start.seed, .round = start.round} {
    if (sketch_ == Sketch::Orthonormal && rank_ > fixed_size_) {
      throw core::ConfigError("training.rank: " + std::to_string(rank_) +
                              " orthonormal rows do not fit into the " +
                              std::to_string(fixed_size_) + " dimensions of " + linear.name);
    }
    trained_ =
        make_leaf(side_ == Side::Right ? at::zeros({linear.out_features(), rank_}, at::kFloat)
                                       : at::zeros({rank_, linear.in_features()}, at::kFloat),
                  linear);
    fixed_ = fixed_factor();
  }

  Pair pair() const override {
    Pair now = block_pair(trained_, fixed_);
    if (merged_.empty()) return now;
    std::vector<at::Tensor> a = {now.a};
    std::vector<at::Tensor> b = {now.b};
    for (const Pair& pair : merged_) {
      a.push_back(pair.a);
      b.push_back(pair.b);
    }
    return {.a = at::cat(a, /*dim=*/0), .b = at::cat(b, /*dim=*/1)};
  }
  std::vector<Parameter> parameters() const override {
    const char* name = side_ == Side::Right ? ".lora_B" : ".lora_A";
    return {{.name = module() + name, .tensor = trained_}};
  }

  /// Merges what is trained and starts the next block at zero, with a fresh sketch.
  void merge() {
    const at::NoGradGuard no_grad;
    merged_.push_back(block_pair(trained_.detach().clone(), fixed_));
    trained_.zero_();
    fixed_ = fixed_factor();
  }

  std::string merged_name(std::size_t block) const {
    return module() + ".merged." + std::to_string(block);
  }
  /// What the blocks that are merged have learnt; their sketches follow from the key.
  void save_merged(TensorMap& state) const {
    for (std::size_t block = 0; block < merged_.size(); ++block) {
      const Pair& pair = merged_[block];
      state[merged_name(block)] = (side_ == Side::Right ? pair.b : pair.a).clone();
    }
  }
  /// Takes its own blocks out of `state`.
  void load_merged(TensorMap& state) {
    merged_.clear();
    fixed_ = fixed_factor();
    for (auto found = state.find(merged_name(0)); found != state.end();
         found = state.find(merged_name(merged_.size()))) {
      core::require(found->second.sizes() == trained_.sizes(),
                    "load_state: " + found->first + " has another shape");
      merged_.push_back(
          block_pair(found->second.to(trained_.device(), trained_.scalar_type()), fixed_));
      state.erase(found);
      fixed_ = fixed_factor();
    }
  }
  std::size_t num_merged() const { return merged_.size(); }

 private:
  Pair block_pair(const at::Tensor& trained, const at::Tensor& fixed) const {
    if (side_ == Side::Right) return {.a = fixed, .b = trained};
    return {.a = trained, .b = fixed};
  }
  /// Of the block that is trained now.
  at::Tensor fixed_factor() const {
    const at::Tensor rows = draw_sketch(start_, module(), static_cast<std::int64_t>(merged_.size()),
                                        rank_, fixed_size_, sketch_)
                                .to(trained_.device(), trained_.scalar_type());
    return side_ == Side::Right ? rows : rows.t().contiguous();
  }

  Side side_;
  Sketch sketch_;
  std::int64_t rank_;
  std::int64_t fixed_size_;
  AdapterStart start_;
  at::Tensor trained_;
  at::Tensor fixed_;
  std::vector<Pair> merged_;
};

/// Forgets the adapter's moments where a block begins.
class RestartingAdamW final : public SplitAdamW {
 public:
  RestartingAdamW(const std::vector<Parameter>& parameters, Choice is_adapters,
                  const AdamWOptions& options, std::shared_ptr<const bool> restart)
      : SplitAdamW(parameters, std::move(is_adapters), options, options),
        restart_(std::move(restart)) {}

  void step(double learning_rate) override {
    if (*restart_) restart_special();
    SplitAdamW::step(learning_rate);
  }

 private:
  std::shared_ptr<const bool> restart_;
};

class RacLora final : public SideAdapter<RacLayer> {
 public:
  RacLora(models::Model& model, const AdapterSpec& spec, const AdapterStart& start)
      : SideAdapter(model, spec, start), blocks_(integer(spec, "blocks")) {}

  std::unique_ptr<Optimizer> make_optimizer(std::vector<Parameter> parameters,
                                            const AdamWOptions& options) override {
    std::vector<std::string> own;
    for (const Parameter& parameter : this->parameters()) own.push_back(parameter.name);
    const auto is_own = [own](std::string_view name) {
      return std::find(own.begin(), own.end(), name) != own.end();
    };
    return std::make_unique<RestartingAdamW>(parameters, is_own, options, restart_);
  }

  void before_step(const Step& step) override {
    SideAdapter::before_step(step);
    const std::int64_t total = std::max<std::int64_t>(step.total, 1);
    const auto block =
        static_cast<std::size_t>(std::min(step.index * blocks_ / total, blocks_ - 1));
    *restart_ = layers_.front().num_merged() < block;
    for (RacLayer& layer : layers_) {
      while (layer.num_merged() < block) layer.merge();
    }
  }

  TensorMap state() const override {
    TensorMap state = SideAdapter::state();
    for (const RacLayer& layer : layers_) layer.save_merged(state);
    return state;
  }
  void load_state(const TensorMap& state) override {
    TensorMap rest = state;
    for (RacLayer& layer : layers_) layer.load_merged(rest);
    SideAdapter::load_state(rest);
  }

 private:
  std::int64_t blocks_;
  std::shared_ptr<bool> restart_ = std::make_shared<bool>(false);  // the step's first of a block
};

std::unique_ptr<Adapter> make_rac_lora(models::Model& model, const AdapterSpec& spec,
                                       const AdapterStart& start) {
  return std::make_unique<RacLora>(model, spec, start);
}

std::int64_t rac_export_rank(const AdapterSpec& spec) {
  return spec.rank * integer(spec, "blocks");
}

}  // namespace

at::Tensor draw_sketch(const AdapterStart& start, const std::string& module, std::int64_t block,
                       std::int64_t rank, std::int64_t size, Sketch sketch) {
  const at::NoGradGuard no_grad;
  const std::string purpose = "rac-sketch/" + std::to_string(block) + "/" + module;
  const at::Tensor rows = nested_normal({start.seed, start.round, "", purpose}, rank, size);
  if (sketch == Sketch::Gaussian) return rows / std::sqrt(static_cast<double>(size));
  return std::get<0>(at::linalg_qr(rows.t().to(at::kDouble), "reduced")).t().to(at::kFloat);
}

Method rac_lora_method() {
  return {
      .name = "rac-lora",
      .summary =
          "a chain of LoRA blocks with one random fixed factor each (Malinovsky et al., "
          "2024, arXiv:2410.08305)",
      .options = {{.name = "blocks",
                   .default_value = std::int64_t{1},
                   .help = "blocks of the chain within a round, merged one after the other",
                   .least = 1,
                   .most = 1000},
                  {.name = "side",
                   .default_value = std::string("right"),
                   .help = "where the sketch stands: right trains B, left trains A; alternating "
                           "by rounds",
                   .choices = {"right", "left", "alternating"}},
                  {.name = "sketch",
                   .default_value = std::string("gaussian"),
                   .help = "distribution of the sketch",
                   .choices = {"gaussian", "orthonormal"}}},
      .make = make_rac_lora,
      .export_rank = rac_export_rank};
}

}  // namespace drystone::adapters
