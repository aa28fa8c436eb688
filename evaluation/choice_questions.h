#pragma once
// Questions of multiple choice, and their answers as continuations of a prompt.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "data/cut_texts.h"
#include "data/dataset.h"
#include "data/record.h"
#include "evaluation/evaluated_model.h"
#include "evaluation/measurement.h"

namespace drystone::evaluation {

struct ChoiceQuestion {
  std::string prompt;
  std::vector<std::string> answers;  ///< what follows the prompt, with its leading space
  std::size_t truth = 0;
  data::Place where;
};

/// Those of options.data, at most max_examples. @throws core::ConfigError, core::IoError
std::vector<ChoiceQuestion> read_questions(const EvaluateOptions& options);

/// Adds a sequence for each answer, in their order; its labels are the answer's tokens.
/// @throws core::ConfigError  as EvaluatedModel::check_ids
void add_answers(const EvaluatedModel& model, const ChoiceQuestion& question,
                 std::int64_t max_length, data::Dataset& dataset, data::CutTexts& cut);

}  // namespace drystone::evaluation
