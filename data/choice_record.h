#pragma once
// Multiple-choice questions as benchmarks write them.

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "data/record.h"

namespace drystone::data {

/// Names of the fields; where they are empty, a record has one of these forms:
///   question, choices, answer           MMLU
///   question, choices, answerKey        ARC, CommonsenseQA: choices with labels; the question may
///                                       be an object that holds stem and choices
///   question_stem, choices, answerKey   OpenBookQA
///   ctx, endings, label                 HellaSwag, worded as the LM evaluation harness words it
struct ChoiceFields {
  std::string question;
  std::string choices;
  std::string answer;
};

struct ChoiceRecord {
  std::string question;
  std::vector<std::string> choices;  ///< 2 to 26
  std::size_t truth = 0;
  bool is_beginning = false;  ///< the choices continue the question's sentence
  Place where;
};

/// Reads JSON lines or an array. Choices are texts, [{text, label}], {text: […], label: […]} or
/// {label: text}. The right one is named by its label where the choices have labels, else by its
/// text, its letter or its number from 0; what can be read in several of these ways is read as the
/// file's other answers are.
/// @param most  of the records, the first ones; 0: all
/// @throws core::ConfigError  `FILE:LINE: …`  @throws core::IoError
std::vector<ChoiceRecord> read_choice_records(const std::filesystem::path& file,
                                              const ChoiceFields& fields, std::size_t most);

}  // namespace drystone::data
