#pragma once
// Hugging Face's tokenizer.json → the parts of a WordPiece tokenizer. Private to this folder: shows
// the JSON library.

#include <filesystem>

#include <nlohmann/json.hpp>

#include "data/wordpiece.h"

namespace drystone::data {

/// Reads `file` as one JSON value.
/// @throws core::IoError      it cannot be read
/// @throws core::ConfigError  it is not JSON
nlohmann::json read_json(const std::filesystem::path& file);

/// Everything but the roles (WordPieceSpec::special).
/// @param file  for messages
/// @throws core::ConfigError  another model type, an unsupported component, or a malformed field
WordPieceSpec parse_wordpiece(const nlohmann::json& root, const std::filesystem::path& file);

}  // namespace drystone::data
