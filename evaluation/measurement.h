#pragma once
// What is measured and what comes out (docs/evaluation.md).

#include <cstdint>
#include <filesystem>
#include <functional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "training/metrics.h"

namespace drystone::evaluation {

struct EvaluateOptions {
  std::filesystem::path model;    ///< Hugging Face folder
  std::filesystem::path adapter;  ///< PEFT folder; empty: none
  /// Folder of member-<k> folders, in place of `adapter`.
  std::filesystem::path ensemble = {};
  std::filesystem::path data;
  std::string task = "classification";
  std::string text_field = "text";
  std::string text_pair_field;  ///< second text of sentence pairs; empty: none
  std::string label_field = "label";
  std::vector<std::string> labels;  ///< class names in id order
  std::string prompt_template = "auto";
  std::string answer_field;
  std::string loss_on = "answer";
  std::string question_field;  ///< multiple-choice; empty: a usual name (data/choice_record.h)
  std::string choices_field;   ///< likewise
  std::string choice_style = "text";  ///< text | letters: what is scored
  std::string dtype = "float32";
  std::int64_t max_length = 0;  ///< tokens; 0: 128 for labels, else what the model has, ≤ 1024
  std::int64_t batch_size = 16;
  std::int64_t max_examples = 0;      ///< 0: all; else the first ones
  std::int64_t max_new_tokens = 256;  ///< exact-match
  std::string device = "auto";
  // classification, causal-lm and multiple-choice:
  std::filesystem::path posterior;   ///< RUN/global of "laplace-lora", in place of `adapter`
  std::int64_t samples = 0;          ///< draws of the logits; 0: 10,000, for causal-lm 32
  std::string prior = "evidence";    ///< evidence | validation | λ
  std::filesystem::path validation;  ///< data for the prior's choice and for a temperature
  // classification:
  std::int64_t mc_dropout = 0;  ///< passes with the model's own dropout on; 0: none
};

struct Measurement {
  std::int64_t num_examples = 0;
  training::Metrics metrics;
  /// Where one model predicts in several ways: each one's metrics.
  std::vector<std::pair<std::string, training::Metrics>> predictives = {};
  /// One object an example, in the file's order: what the metrics can be computed from.
  std::vector<nlohmann::ordered_json> predictions = {};
};

struct MeasureHooks {
  std::function<void(std::int64_t done, std::int64_t total)> on_progress;
  std::stop_token stop;
};

}  // namespace drystone::evaluation
