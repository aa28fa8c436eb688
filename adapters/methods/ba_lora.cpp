#include "adapters/methods/ba_lora.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>

#include "adapters/methods/base_pass.h"
#include "adapters/methods/output_regularisers.h"
#include "adapters/methods/pissa.h"
#include "models/loss.h"

namespace drystone::adapters {

namespace {

constexpr std::int64_t kPublished = -1;  // an option's value that stands for the publication's

struct Settings {
  bool is_2024 = false;
  std::string teacher_schedule, other_schedule;
  double temperature = 2.0;
  double consistency = -1.0, diversity = -1.0, spectral = -1.0;
  std::int64_t k = kPublished;
  std::int64_t top_entropy = 20;
  SpectralNorm norm = SpectralNorm::Frobenius;
  core::StreamKey key;
};

Settings settings_of(const AdapterSpec& spec, const AdapterStart& start) {
  const bool is_2024 = text(spec, "variant") == "2024";
  const auto schedule = [&](const char* option, const char* published) {
    const std::string& chosen = text(spec, option);
    if (chosen != "published") return chosen;
    return std::string(is_2024 ? "constant" : published);
  };
  return {.is_2024 = is_2024,
          .teacher_schedule = schedule("consistency_schedule", "cosine"),
          .other_schedule = schedule("other_schedule", "two-phase"),
          .temperature = number(spec, "temperature"),
          .consistency = number(spec, "consistency"),
          .diversity = number(spec, "diversity"),
          .spectral = number(spec, "spectral"),
          .k = integer(spec, "k"),
          .top_entropy = integer(spec, "top_k_entropy"),
          .norm = text(spec, "spectral_norm") == "nuclear" ? SpectralNorm::Nuclear
                                                           : SpectralNorm::Frobenius,
          .key = {.seed = start.seed, .round = start.round, .purpose = "ba-lora-range"}};
}

class BaLora final : public SideAdapter<PissaLayer> {
 public:
  BaLora(models::Model& model, const AdapterSpec& spec, const AdapterStart& start)
      : SideAdapter(model, spec, start),
        settings_(settings_of(spec, start)),
        teacher_(model, start) {}

  void before_step(const Step& step) override {
    SideAdapter::before_step(step);
    teacher_.start_step();
  }

  bool needs_logits() const override { return true; }
  std::vector<SidePath*> side_paths() override { return {}; }
  std::int64_t own_passes() const override { return teacher_.num_passes(); }

  at::Tensor extra_loss(const LossContext& context) override {
    const bool is_nlg = context.batch.labels.dim() == 2;
    at::Tensor sum = at::zeros({}, context.logits.options());
    const double consistency = chosen(settings_.consistency, is_nlg ? 0.025 : 0.15, 1e-4);
    if (consistency > 0.0) sum = sum + consistency_term(context, is_nlg, consistency);
    const auto other = [&](double chosen_weight) {
      return scheduled_weight(settings_.other_schedule, chosen_weight, context.step);
    };
    const double diversity = other(chosen(settings_.diversity, is_nlg ? 0.005 : 0.03, 3e-4));
    if (diversity > 0.0) sum = sum + diversity_term(context, is_nlg) * diversity;
    const double spectral = other(chosen(settings_.spectral, is_nlg ? 0.005 : 0.03, 1e-4));
    if (spectral > 0.0) sum = sum + spectral_term(context, is_nlg) * spectral;
    return sum;
  }

 private:
  double chosen(double own, double published_2026, double published_2024) const {
    if (own >= 0.0) return own;
    return settings_.is_2024 ? published_2024 : published_2026;
  }

  at::Tensor consistency_term(const LossContext& context, bool is_nlg, double full) {
    const at::Tensor teacher = teacher_.logits(context);
    if (settings_.is_2024 && !is_nlg) {
      return normalised_distance(context.logits, teacher) *
             scheduled_weight(settings_.teacher_schedule, full, context.step);
    }
    double weight = full;
    if (settings_.teacher_schedule == "adaptive") {
      const double entropy = -negative_entropy(teacher, 0).item<double>();
      const double most = std::log(static_cast<double>(teacher.size(-1)));
      weight = full * (0.1 + 0.9 * (1.0 - entropy / most));
    } else {
      weight = scheduled_weight(settings_.teacher_schedule, full, context.step);
    }
    if (!settings_.is_2024) {
      return distillation(context.logits, teacher, settings_.temperature) * weight;
    }
    // 2024: summed over a row's tokens, averaged over rows.
    const double tokens_a_row = static_cast<double>(context.logits.size(0)) /
                                static_cast<double>(context.batch.labels.size(0));
    return distillation(context.logits, teacher, 1.0) * (weight * tokens_a_row);
  }

  at::Tensor diversity_term(const LossContext& context, bool is_nlg) const {
    if (!is_nlg) return decorrelation(context.logits);
    return negative_entropy(context.logits, settings_.is_2024 ? 0 : settings_.top_entropy);
  }

  at::Tensor spectral_term(const LossContext& context, bool is_nlg) const {
    const std::int64_t published = settings_.is_2024 ? 3 : (is_nlg ? 10 : 5);
    const std::int64_t k = settings_.k == kPublished ? published : settings_.k;
    const bool is_nuclear = settings_.is_2024 || !is_nlg;
    core::StreamKey key = settings_.key;
    key.round = core::stream_seed({key.seed, key.round, "", std::to_string(context.step.index)});
    return negative_spectral_share(
        settings_.is_2024 && is_nlg ? rows_of_samples(context) : context.logits, k,
        is_nuclear ? SpectralNorm::Nuclear : settings_.norm, key);
  }

  /// [rows, tokens · vocabulary]: a sample's targets one after the other, zeros behind the last.
  static at::Tensor rows_of_samples(const LossContext& context) {
    const at::Tensor row =
        models::find_targets(context.batch).positions.div(context.batch.labels.size(1), "floor");
    const std::int64_t rows = context.batch.labels.size(0);
    const at::Tensor counts = row.bincount(/*weights=*/{}, rows);
    const at::Tensor firsts = counts.cumsum(0) - counts;
    const std::int64_t most = counts.max().item<std::int64_t>();
    const at::Tensor place = at::arange(row.size(0), row.options()) - firsts.index_select(0, row);
    const at::Tensor padded =
        at::zeros({rows * most, context.logits.size(1)}, context.logits.options())
            .index_copy(0, (row * most + place).to(context.logits.device()), context.logits);
    return padded.view({rows, -1});
  }

  Settings settings_;
  BasePass teacher_;
};

std::unique_ptr<Adapter> make_ba_lora(models::Model& model, const AdapterSpec& spec,
                                      const AdapterStart& start) {
  return std::make_unique<BaLora>(model, spec, start);
}

MethodOption weight_option(std::string_view name, std::string_view help) {
  return {.name = name, .default_value = -1.0, .help = help, .least = -1.0, .most = 1e6};
}

std::vector<MethodOption> ba_lora_options() {
  std::vector<MethodOption> options = pissa_options();
  const auto add = [&](MethodOption option) { options.push_back(std::move(option)); };
  add({.name = "variant",
       .default_value = std::string("2026"),
       .help = "generation of the formulas and of their published weights",
       .choices = {"2026", "2024"}});
  add(weight_option("consistency", "weight of the distance to the teacher; -1: as published"));
  add(weight_option("diversity", "weight of decorrelation or entropy; -1: as published"));
  add(weight_option("spectral", "weight of the spectral share; -1: as published"));
  add({.name = "consistency_schedule",
       .default_value = std::string("published"),
       .help = "course of the first weight over a round",
       .choices = {"published", "constant", "linear", "quadratic", "cosine", "two-phase",
                   "adaptive"}});
  add({.name = "other_schedule",
       .default_value = std::string("published"),
       .help = "course of the other two weights",
       .choices = {"published", "constant", "linear", "quadratic", "cosine", "two-phase"}});
  add({.name = "temperature",
       .default_value = 2.0,
       .help = "of the teacher's and the student's distributions",
       .least = 1e-3,
       .most = 1e3});
  add({.name = "k",
       .default_value = kPublished,
       .help = "singular values that are favoured; -1: as published",
       .least = -1,
       .most = 4096});
  add({.name = "top_k_entropy",
       .default_value = std::int64_t{20},
       .help = "logits in the entropy of language models; 0: all",
       .least = 0,
       .most = 1e6});
  add({.name = "spectral_norm",
       .default_value = std::string("frobenius"),
       .help = "what the singular values are a share of, for language models",
       .choices = {"frobenius", "nuclear"}});
  return options;
}

}  // namespace

double scheduled_weight(std::string_view schedule, double full, const Step& step) {
  const double now = static_cast<double>(step.index);
  const double total = static_cast<double>(std::max<std::int64_t>(step.total, 1));
  if (schedule == "cosine") {
    return full * (0.1 + 0.9 * 0.5 * (1.0 + std::cos(std::numbers::pi * now / total)));
  }
  const double warm = std::floor(0.2 * total);
  if (schedule == "two-phase") {
    const double ramp = std::max(std::floor(0.05 * total), 1.0);
    return full * std::clamp((now - warm) / ramp, 0.0, 1.0);
  }
  const double share = warm > 0.0 ? std::min(now / warm, 1.0) : 1.0;
  if (schedule == "linear") return full * share;
  if (schedule == "quadratic") return full * share * share;
  return full;
}

Method ba_lora_method() {
  return {.name = "ba-lora",
          .summary =
              "PiSSA with consistency, diversity and spectral regularisers (Chang et al., "
              "2024, arXiv:2408.04556)",
          .options = ba_lora_options(),
          .make = make_ba_lora,
          .export_rank = pissa_export_rank,
          .rank_limit = smaller_side};
}

}  // namespace drystone::adapters
