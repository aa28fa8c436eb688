#include "evaluation/posterior.h"

#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "adapters/registry.h"
#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "tensors/factor_set_io.h"
#include "tensors/member_names.h"
#include "tensors/peft_io.h"
#include "training/global_model.h"

namespace drystone::evaluation {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

core::Options options_from(const Json& json) {
  core::Options options;
  for (const auto& [name, value] : json.items()) {
    if (value.is_boolean()) options[name] = value.get<bool>();
    if (value.is_number_integer()) options[name] = value.get<std::int64_t>();
    if (value.is_number_float()) options[name] = value.get<double>();
    if (value.is_string()) options[name] = value.get<std::string>();
  }
  return options;
}

void read_about(const fs::path& file, PosteriorFolder& folder) {
  try {
    const Json json = core::read_ordered_json(file);
    if (json.at("format") != "drystone-posterior-1") {
      throw core::ConfigError(file.string() + ": not a posterior that this program reads");
    }
    folder.spec = adapters::completed(
        {.method = json.at("method").get<std::string>(),
         .rank = json.at("rank").get<std::int64_t>(),
         .target_modules = json.at("target_modules").get<std::vector<std::string>>(),
         .options = options_from(json.at("options"))});
    folder.curvature.num_examples = json.at("examples").get<double>();
    folder.curvature.plan =
        adapters::sketch_plan(folder.spec, json.at("seed").get<std::uint64_t>());
  } catch (const nlohmann::json::exception& error) {
    throw core::IoError(file.string() + ": not a posterior's description: " + error.what());
  }
}

/// λ as a number; nullopt: to be chosen.
std::optional<double> given_precision(const std::string& prior) {
  if (prior == "evidence" || prior == "validation") return std::nullopt;
  double value = 0.0;
  const auto [end, error] = std::from_chars(prior.data(), prior.data() + prior.size(), value);
  if (error == std::errc() && end == prior.data() + prior.size() && value > 0.0) return value;
  throw core::ConfigError("--prior: " + core::quote(prior) +
                          " is not evidence, validation or a positive precision");
}

PosteriorModel::Prediction by_precision(const adapters::Linearisation::Answer& answer) {
  PosteriorModel::Prediction prediction{.mean = answer.mean, .each = {}};
  for (const at::Tensor& covariances : answer.covariances) {
    auto& logits = prediction.each.emplace_back();
    for (std::int64_t i = 0; i < covariances.size(0); ++i) {
      logits.push_back({.mean = answer.mean, .covariance = covariances[i]});
    }
  }
  return prediction;
}

}  // namespace

PosteriorFolder read_posterior(const fs::path& folder) {
  if (!fs::exists(folder / "posterior.json")) {
    throw core::IoError(folder.string() +
                        ": no posterior.json; give the folder global/ of a run with "
                        "training.method = \"laplace-lora\"");
  }
  PosteriorFolder result;
  read_about(folder / "posterior.json", result);
  tensors::FactorSet set = tensors::read_factor_set(folder / "posterior.safetensors");
  result.factors = std::move(set.modules);
  for (auto& [name, tensor] : set.dense) {
    const auto statistic = tensors::statistic_name(name);
    if (statistic) result.curvature.statistics[*statistic] = std::move(tensor);
  }
  result.head = tensors::read_peft(folder).dense;
  return result;
}

PosteriorModel::PosteriorModel(models::Model& model, const PosteriorFolder& folder) {
  const training::GlobalStatePtr pristine = training::GlobalState::pristine(model);
  tensors::FactorSet version{.modules = {}, .dense = pristine->dense()};
  for (const auto& [name, tensor] : folder.head) version.dense[name] = tensor;
  pristine->apply(0, core::PublishMode::Add, version)->install_for_evaluation(model);
  linearised_ = std::make_unique<adapters::Linearisation>(
      model, folder.spec, adapters::AdapterStart{.factors = &folder.factors});
  std::vector<std::pair<const char*, adapters::Uncertain>> kinds = {
      {"laplace", adapters::Uncertain::Factors}};
  if (linearised_->is_classifier()) {
    kinds.emplace_back("last-layer", adapters::Uncertain::Head);
    kinds.emplace_back("laplace+head", adapters::Uncertain::All);
  }
  for (const auto& [name, which] : kinds) {
    adapters::KroneckerPosterior posterior = linearised_->posterior(folder.curvature, which);
    const double precision = adapters::precision_by_evidence(posterior);
    posteriors_.push_back(
        {.name = name, .posterior = std::move(posterior), .precision = precision});
  }
}

PosteriorModel::~PosteriorModel() = default;

void PosteriorModel::describe(training::Metrics& metrics) const {
  for (const FittedPosterior& fitted : posteriors_) {
    metrics[fitted.name + ".precision"] = fitted.precision;
    metrics[fitted.name + ".log_evidence"] = fitted.posterior.log_evidence(fitted.precision);
  }
}

std::vector<adapters::Linearisation::Query> PosteriorModel::queries(
    const std::vector<double>& precisions) const {
  std::vector<adapters::Linearisation::Query> queries;
  for (const FittedPosterior& fitted : posteriors_) {
    queries.push_back(
        {.posterior = &fitted.posterior,
         .precisions = precisions.empty() ? std::vector<double>{fitted.precision} : precisions});
  }
  return queries;
}

PosteriorModel::Prediction PosteriorModel::predict(const models::Batch& batch,
                                                   const std::vector<double>& precisions) {
  return by_precision(linearised_->predict(batch, queries(precisions)));
}

PosteriorModel::Prediction PosteriorModel::predict_choices(const models::Batch& batch,
                                                           const std::vector<double>& precisions) {
  return by_precision(linearised_->predict_choices(batch, queries(precisions)));
}

std::unique_ptr<PosteriorModel> load_posterior(const EvaluateOptions& options,
                                               models::Model& model) {
  if (options.posterior.empty()) return nullptr;
  const std::optional<double> precision = given_precision(options.prior);
  auto posterior = std::make_unique<PosteriorModel>(model, read_posterior(options.posterior));
  for (FittedPosterior& fitted : posterior->posteriors()) {
    fitted.precision = precision.value_or(fitted.precision);
  }
  return posterior;
}

bool validates_prior(const EvaluateOptions& options) { return options.prior == "validation"; }

std::vector<double> precision_grid() {
  std::vector<double> grid;
  for (double exponent = -2.0; exponent <= 8.0; exponent += 0.5) {
    grid.push_back(std::pow(10.0, exponent));
  }
  return grid;
}

std::int64_t samples_of(const EvaluateOptions& options, std::int64_t fallback) {
  return options.samples > 0 ? options.samples : fallback;
}

}  // namespace drystone::evaluation
