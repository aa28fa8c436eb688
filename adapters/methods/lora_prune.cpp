#include "adapters/methods/lora_prune.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include "adapters/methods/lora.h"
#include "core/check.h"
#include "core/error.h"
#include "models/prunable.h"

namespace drystone::adapters {

namespace {

using models::PrunableBlock;

constexpr const char* kLoraPrune = "loraprune";
constexpr double kNormEpsilon = 1e-8;

class PruneLayer final : public LoraLayer {
 public:
  PruneLayer(const models::Linear& linear, const AdapterSpec& spec, const AdapterStart& start)
      : LoraLayer(linear, spec, start, lora_scale(spec)), weight_(linear.frozen()) {}

  bool has_gradients() const { return a_.grad().defined() && b_.grad().defined(); }
  Importance importance(const ImportanceOptions& options) const {
    return adapters::importance(*weight_, {.a = a_.detach(), .b = b_.detach()},
                                {.a = a_.grad(), .b = b_.grad()}, scale(), options);
  }

 private:
  models::FrozenWeightPtr weight_;
};

/// The blocks that the options leave to be pruned.
std::vector<PrunableBlock> chosen_blocks(models::Model& model, const AdapterSpec& spec) {
  std::vector<PrunableBlock> blocks = models::prunable_blocks(model);
  std::set<std::int64_t> layers;
  for (const PrunableBlock& block : blocks) layers.insert(block.layer);
  const auto num_layers = static_cast<std::int64_t>(layers.size());
  const auto first =
      static_cast<std::int64_t>(number(spec, "protect_first") * static_cast<double>(num_layers));
  const std::int64_t last = num_layers - integer(spec, "protect_last");
  const std::string& what = text(spec, "prune");
  std::erase_if(blocks, [&](const PrunableBlock& block) {
    const std::int64_t place = std::distance(layers.begin(), layers.find(block.layer));
    const bool is_head = block.kind == PrunableBlock::Kind::Heads;
    return place < first || place >= last || what == (is_head ? "channels" : "heads");
  });
  return blocks;
}

/// A block's modules that have an adapter.
struct ScoredBlock {
  PrunableBlock block;
  std::vector<const PruneLayer*> rows;
  const PruneLayer* columns = nullptr;
  at::Tensor start;   ///< [groups] what was published of its scores
  at::Tensor scores;  ///< [groups] fp32 on the CPU: their moving average
  at::Tensor random;  ///< [groups] in place of what was measured; undefined: measure

  bool is_scored() const { return !rows.empty() || columns != nullptr; }
};

class LoraPrune final : public SideAdapter<PruneLayer> {
 public:
  LoraPrune(models::Model& model, const AdapterSpec& spec, const AdapterStart& start)
      : SideAdapter(model, spec, start),
        options_{.virtual_rate = number(spec, "virtual_rate"),
                 .squares = text(spec, "form") == "paper",
                 .magnitude = text(spec, "criterion") == "magnitude"},
        is_random_(text(spec, "criterion") == "random"),
        momentum_(number(spec, "momentum")),
        every_(integer(spec, "every")) {
    std::map<std::string, const PruneLayer*> layers;
    for (const PruneLayer& layer : layers_) layers[layer.module()] = &layer;
    for (PrunableBlock& block : chosen_blocks(model, spec)) {
      ScoredBlock scored{.block = std::move(block)};
      for (const std::string& row : scored.block.rows) {
        if (layers.contains(row)) scored.rows.push_back(layers.at(row));
      }
      if (layers.contains(scored.block.columns)) {
        scored.columns = layers.at(scored.block.columns);
      }
      if (scored.is_scored()) add(std::move(scored), start);
    }
  }

  void on_gradients(const Step& step) override {
    if (step.index % every_ != 0) return;
    const at::NoGradGuard no_grad;
    std::map<const PruneLayer*, Importance> importances;
    if (!is_random_) importances = measure();
    std::vector<at::Tensor> of_blocks;
    std::vector<std::int64_t> sizes;
    for (const ScoredBlock& block : blocks_) {
      of_blocks.push_back(group_scores(block, importances));
      sizes.push_back(block.block.groups);
    }
    if (blocks_.empty()) return;
    const at::Tensor now = at::cat(of_blocks).to(at::kCPU);  // a GPU is waited for once
    if (!at::isfinite(now).all().item<bool>()) return;       // one bad batch spoils no average
    const std::vector<at::Tensor> parts = now.split_with_sizes(sizes);
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      blocks_[i].scores.mul_(momentum_).add_(parts[i], 1.0 - momentum_);
    }
  }

  /// The moving averages as differences from what was published: the server's weighted sum then
  /// holds the clients' mean of them.
  TensorMap statistics() const override {
    TensorMap statistics;
    for (const ScoredBlock& block : blocks_) {
      statistics[score_name(block)] = block.scores - block.start;
    }
    return statistics;
  }

  TensorMap state() const override {
    TensorMap state = SideAdapter::state();
    for (const ScoredBlock& block : blocks_) state[score_name(block)] = block.scores.clone();
    return state;
  }
  void load_state(const TensorMap& state) override {
    const at::NoGradGuard no_grad;
    TensorMap rest = state;
    for (const ScoredBlock& block : blocks_) {
      const auto saved = rest.extract(score_name(block));
      core::require(!saved.empty() && saved.mapped().sizes() == block.scores.sizes(),
                    "load_state: " + score_name(block) + " is missing or has another shape");
      block.scores.copy_(saved.mapped());
    }
    SideAdapter::load_state(rest);
  }

  static std::string score_name(const ScoredBlock& block) {
    return std::string(tensors::kPruning) + block.block.name;
  }

 private:
  void add(ScoredBlock block, const AdapterStart& start) {
    block.start = at::zeros({block.block.groups}, at::kFloat);
    if (start.statistics != nullptr) {
      const auto published = start.statistics->find(score_name(block));
      if (published != start.statistics->end()) block.start = published->second.to(at::kCPU);
    }
    block.scores = block.start.clone();
    if (is_random_) {  // everybody's the same, in every round
      const std::string purpose = "prune-random/" + block.block.name;
      block.random = nested_normal({.seed = start.seed, .purpose = purpose}, block.block.groups, 1)
                         .flatten()
                         .abs();
    }
    blocks_.push_back(std::move(block));
  }

  std::map<const PruneLayer*, Importance> measure() const {
    std::map<const PruneLayer*, Importance> importances;
    const auto measure_one = [&](const PruneLayer* layer) {
      if (layer == nullptr || !layer->has_gradients()) return;
      importances.emplace(layer, layer->importance(options_));
    };
    for (const ScoredBlock& block : blocks_) {
      for (const PruneLayer* row : block.rows) measure_one(row);
      measure_one(block.columns);
    }
    return importances;
  }

  /// Σ over the block's modules of their groups' sums, each module's of length 1.
  at::Tensor group_scores(const ScoredBlock& block,
                          const std::map<const PruneLayer*, Importance>& importances) const {
    if (block.random.defined()) return block.random;
    const at::TensorOptions options =
        importances.empty() ? at::TensorOptions() : importances.begin()->second.rows.options();
    at::Tensor sum = at::zeros({block.block.groups}, options.dtype(at::kFloat));
    const auto add = [&](const PruneLayer* layer, at::Tensor Importance::* side) {
      const auto found = importances.find(layer);
      if (found == importances.end()) return;
      const at::Tensor& values = found->second.*side;
      at::Tensor groups = values.view({block.block.groups, -1}).sum(/*dim=*/1);
      if (!options_.squares) groups = groups / (groups.norm() + kNormEpsilon);
      sum.add_(groups.to(at::kFloat));
    };
    for (const PruneLayer* row : block.rows) add(row, &Importance::rows);
    if (block.columns != nullptr) add(block.columns, &Importance::columns);
    return sum;
  }

  ImportanceOptions options_;
  bool is_random_;
  double momentum_;
  std::int64_t every_;
  std::vector<ScoredBlock> blocks_;
};

std::unique_ptr<Adapter> make_lora_prune(models::Model& model, const AdapterSpec& spec,
                                         const AdapterStart& start) {
  return std::make_unique<LoraPrune>(model, spec, start);
}

std::map<std::string, std::vector<std::int64_t>> declare_scores(models::Model& model,
                                                                const AdapterSpec& spec) {
  std::set<std::string> adapted;
  for (const models::Linear* linear : match_linears(model, spec.target_modules)) {
    adapted.insert(linear->name);
  }
  std::map<std::string, std::vector<std::int64_t>> declared;
  for (const PrunableBlock& block : chosen_blocks(model, spec)) {
    const auto is_adapted = [&](const std::string& module) { return adapted.contains(module); };
    if (is_adapted(block.columns) || std::ranges::any_of(block.rows, is_adapted)) {
      declared[std::string(tensors::kPruning) + block.name] = {block.groups};
    }
  }
  if (declared.empty()) {
    throw core::ConfigError(
        "training.method: \"loraprune\" finds nothing to prune: target_modules, prune or the "
        "protected layers leave no block, or the model's projections are fused (GPT-2, Phi-3)");
  }
  return declared;
}

std::int64_t check_plan(const AdapterSpec& spec) {
  pruning_plan(spec, 1);
  return spec.rank;
}

MethodOption share(std::string_view name, double value, std::string_view help) {
  return {.name = name, .default_value = value, .help = help, .least = 0.0, .most = 1.0};
}

}  // namespace

Importance importance(const models::FrozenWeight& weight, const Pair& pair, const Pair& gradients,
                      double scale, const ImportanceOptions& options) {
  const at::NoGradGuard no_grad;
  const std::int64_t out = pair.b.size(0);
  Importance result{.rows = at::empty({out}, pair.b.options()),
                    .columns = at::zeros({pair.a.size(1)}, pair.a.options())};
  const at::Tensor moved = pair.b - gradients.b * options.virtual_rate;
  weight.visit_rows([&](std::int64_t first, const at::Tensor& rows) {
    const auto part = [&](const at::Tensor& tensor) {
      return tensor.narrow(0, first, rows.size(0));
    };
    at::Tensor values = rows + at::mm(part(pair.b), pair.a) * scale;
    if (!options.magnitude) {
      values.mul_(at::mm(part(gradients.b), pair.a).add_(at::mm(part(moved), gradients.a)));
    }
    values = options.squares ? values.square_() : values.abs_();
    part(result.rows).copy_(values.sum(/*dim=*/1));
    result.columns.add_(values.sum(/*dim=*/0));
  });
  return result;
}

std::optional<tensors::PruningPlan> pruning_plan(const AdapterSpec& spec, std::int64_t rounds) {
  if (spec.method != kLoraPrune) return std::nullopt;
  const auto share_of = [&](const char* name, double fallback) {
    const auto given = spec.options.find(name);
    if (given == spec.options.end()) return fallback;
    const auto* whole = std::get_if<std::int64_t>(&given->second);
    return whole != nullptr ? static_cast<double>(*whole) : std::get<double>(given->second);
  };
  const tensors::PruningPlan defaults;
  const tensors::PruningPlan plan{.rounds = rounds,
                                  .ratio = share_of("ratio", defaults.ratio),
                                  .initial = share_of("initial", defaults.initial),
                                  .warmup = share_of("warmup", defaults.warmup),
                                  .cooldown = share_of("cooldown", defaults.cooldown)};
  if (plan.initial > plan.ratio) {
    throw core::ConfigError("training.options.initial: is above ratio; what is pruned stays so");
  }
  if (plan.warmup + plan.cooldown > 1.0) {
    throw core::ConfigError("training.options.warmup: with cooldown it exceeds 1; lower one");
  }
  return plan;
}

Method lora_prune_method() {
  const tensors::PruningPlan plan;
  return {
      .name = kLoraPrune,
      .summary =
          "LoRA that prunes heads and channels by its own gradients (Zhang et al., 2024, "
          "arXiv:2305.18403)",
      .options = {{.name = "ratio",
                   .default_value = plan.ratio,
                   .help = "share of the groups that is pruned in the end",
                   .least = 0.0,
                   .most = 0.99},
                  share("initial", plan.initial, "share that is pruned from the first version on"),
                  share("warmup", plan.warmup, "share of the rounds before pruning grows"),
                  share("cooldown", plan.cooldown, "share of the rounds at the final ratio"),
                  {.name = "prune",
                   .default_value = std::string("both"),
                   .help = "what is pruned",
                   .choices = {"both", "heads", "channels"}},
                  share("protect_first", 0.0, "share of the first layers that are never pruned"),
                  {.name = "protect_last",
                   .default_value = std::int64_t{0},
                   .help = "last layers that are never pruned",
                   .least = 0,
                   .most = 1e6},
                  {.name = "form",
                   .default_value = std::string("reference"),
                   .help = "absolute values with modules of equal weight, or the paper's squares",
                   .choices = {"reference", "paper"}},
                  {.name = "criterion",
                   .default_value = std::string("gradient"),
                   .help =
                       "what a weight's importance is: gradient times weight, its magnitude, or "
                       "a random order of the groups, for comparison",
                   .choices = {"gradient", "magnitude", "random"}},
                  {.name = "virtual_rate",
                   .default_value = 1.0,
                   .help = "rate of the virtual step that estimates the gradient",
                   .least = 1e-12,
                   .most = 1e6},
                  {.name = "momentum",
                   .default_value = 0.9,
                   .help = "of the scores' moving average",
                   .least = 0.0,
                   .most = 0.9999},
                  {.name = "every",
                   .default_value = std::int64_t{1},
                   .help = "steps from one measurement of the scores to the next",
                   .least = 1,
                   .most = 1e6}},
      .make = make_lora_prune,
      .export_rank = check_plan,
      .continues = true,
      .statistics = declare_scores};
}

}  // namespace drystone::adapters
