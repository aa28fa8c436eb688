#pragma once
// What lies beside the weights of a checkpoint: tokenizer, templates, licence.

#include <filesystem>

namespace drystone::evaluation {

/// Copies the files of `model` and its sub-folders, without weights in any format, config.json,
/// adapters, checkpoints of a training, and what is hidden. Of a sub-folder with weights nothing is
/// copied. Modes are not copied.
/// @throws std::filesystem::filesystem_error, core::IoError
void copy_companions(const std::filesystem::path& model, const std::filesystem::path& out);

/// What a run's folder says of the evaluation, beside its adapter.
inline constexpr const char* kEvaluationFile = "evaluation.json";

/// Copies that file over another's, if there is one: a checkpoint or adapter made of the folder is
/// then evaluated as the run was.
void copy_evaluation(const std::filesystem::path& from, const std::filesystem::path& out);

/// Copies the tokenizer that a folder holds over another's. @return  false: it holds none
bool copy_tokenizer(const std::filesystem::path& from, const std::filesystem::path& out);

/// Whether the folder holds a tokenizer of its own.
bool has_tokenizer(const std::filesystem::path& folder);

}  // namespace drystone::evaluation
