#pragma once
// What lies beside the weights of a checkpoint: tokenizer, templates, licence.

#include <filesystem>

namespace drystone::evaluation {

/// Copies the files of `model` and its sub-folders, without weights in any format, config.json,
/// adapters, checkpoints of a training, and what is hidden. Of a sub-folder with weights nothing is
/// copied.
/// @throws std::filesystem::filesystem_error
void copy_companions(const std::filesystem::path& model, const std::filesystem::path& out);

/// Copies the tokenizer that a folder holds over another's. @return  false: it holds none
bool copy_tokenizer(const std::filesystem::path& from, const std::filesystem::path& out);

/// Whether the folder holds a tokenizer of its own.
bool has_tokenizer(const std::filesystem::path& folder);

}  // namespace drystone::evaluation
