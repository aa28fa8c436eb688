#include "evaluation/choice_predictives.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include "evaluation/comparison.h"
#include "models/likelihood.h"
#include "training/examples.h"

namespace drystone::evaluation {

using Json = nlohmann::ordered_json;

namespace {

/// Questions, of which each is a batch: the rows are its answers.
class Questions final : public PredictiveSource {
 public:
  Questions(const EvaluateOptions& options, const MeasureHooks& hooks, const EvaluatedModel& model,
            PosteriorModel* posterior, std::span<const ChoiceQuestion> questions)
      : options_(options),
        hooks_(hooks),
        model_(model),
        posterior_(posterior),
        questions_(questions) {}

  at::Tensor labels() const override {
    std::vector<std::int64_t> labels;
    for (const ChoiceQuestion& question : questions_) {
      labels.push_back(static_cast<std::int64_t>(question.truth));
    }
    return at::tensor(labels, at::kLong);
  }
  std::int64_t num_classes() const override {
    std::size_t most = 0;
    for (const ChoiceQuestion& question : questions_) {
      most = std::max(most, question.answers.size());
    }
    return static_cast<std::int64_t>(most);
  }

  bool for_each(const Ask& ask, const Body& body) override {
    const at::NoGradGuard no_grad;
    const auto total = static_cast<std::int64_t>(questions_.size());
    for (std::size_t i = 0; i < questions_.size(); ++i) {
      if (hooks_.stop.stop_requested()) return false;
      const std::vector<std::size_t> one = {i};
      body({.examples = one, .prediction = predict(ask, batch_of(questions_[i]))});
      if (hooks_.on_progress) hooks_.on_progress(static_cast<std::int64_t>(i) + 1, total);
    }
    return true;
  }

 private:
  models::Batch batch_of(const ChoiceQuestion& question) const {
    data::Dataset dataset;
    data::CutTexts told_before;
    add_answers(model_, question, options_.max_length, dataset, told_before);
    std::vector<std::size_t> rows(dataset.size());
    std::iota(rows.begin(), rows.end(), std::size_t{0});
    data::EncodedBatch encoded;
    data::fill_batch(dataset, rows, model_.tokenizer().special().pad.value_or(0), encoded);
    return training::to_tensors(encoded, models::Task::CausalLm);
  }

  PosteriorModel::Prediction predict(const Ask& ask, const models::Batch& batch) const {
    if (posterior_ != nullptr && ask.covariances) {
      return posterior_->predict_choices(batch, ask.precisions);
    }
    std::vector<double> scores;
    for (const models::Likelihood& row : models::log_likelihoods(model_.model(), batch)) {
      scores.push_back(row.log_probability);
    }
    return {.mean = at::tensor(scores, at::kDouble).unsqueeze(0), .each = {}};
  }

  const EvaluateOptions& options_;
  const MeasureHooks& hooks_;
  const EvaluatedModel& model_;
  PosteriorModel* posterior_;
  std::span<const ChoiceQuestion> questions_;
};

}  // namespace

Measurement with_choice_predictives(Measurement measurement, const EvaluateOptions& options,
                                    const MeasureHooks& hooks, const EvaluatedModel& model,
                                    PosteriorModel* posterior,
                                    std::span<const ChoiceQuestion> questions) {
  EvaluateOptions other = options;
  other.data = options.validation;
  std::vector<ChoiceQuestion> held_out;
  if (!other.data.empty()) held_out = read_questions(other);
  Questions tested(options, hooks, model, posterior, questions);
  Questions validated(options, hooks, model, posterior, held_out);
  Measurement compared =
      compare_predictives(options, posterior, tested, held_out.empty() ? nullptr : &validated);
  if (compared.num_examples == 0) return {};
  for (const char* name : {"nll", "ece", "brier"}) {
    measurement.metrics[name] = compared.metrics.at(name);
  }
  for (const auto& [name, value] : compared.metrics) {
    const bool is_own = name == "temperature" || name.find('.') != std::string::npos;
    if (is_own) measurement.metrics[name] = value;
  }
  measurement.predictives = std::move(compared.predictives);
  for (std::size_t i = 0; i < questions.size(); ++i) {
    Json& own = measurement.predictions[i]["predictives"];
    own = std::move(compared.predictions[i]["predictives"]);
    for (Json& log_p : own) log_p.get_ref<Json::array_t&>().resize(questions[i].answers.size());
  }
  return measurement;
}

}  // namespace drystone::evaluation
