#pragma once
// Hugging Face's tokenizer.json → the parts of a tokenizer. Private to this folder: shows the JSON
// library. `file` is for messages; every function throws core::ConfigError for what is malformed or
// not supported, naming the file and the component.

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "text/bpe.h"
#include "text/token_pipeline.h"
#include "text/wordpiece.h"

namespace drystone::text {

/// Reads `file` as one JSON value, as large as tokenizers are. @throws as core::read_json
nlohmann::json read_json(const std::filesystem::path& file);

/// Throws core::ConfigError: FILE: PROBLEM.
[[noreturn]] void refuse(const std::filesystem::path& file, const std::string& problem);
/// Throws core::ConfigError: FILE: COMPONENT TYPE is not supported; those that work: …
[[noreturn]] void refuse_type(const std::filesystem::path& file, std::string_view component,
                              const std::string& type, std::string_view works);

/// Value of `key`, or `fallback` where it is absent or null.
template <typename T>
T value_or(const nlohmann::json& object, const char* key, T fallback) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return fallback;
  return found->get<T>();
}

/// Member `key` of an object; null where it is absent.
const nlohmann::json& member(const nlohmann::json& object, const char* key);

/// An integer from 0 to 2^31 − 1; nlohmann's get would cut a larger one.
/// @throws core::ConfigError  anything else
TokenId token_id(const nlohmann::json& value);

/// A component's "type", "" where it is null or names none.
std::string type_of(const nlohmann::json& component);

/// A component as a list: a Sequence's members (under `key`), nested ones in place; else itself;
/// none for null. Sequences may be nested `depth` deep and have 256 members in all.
std::vector<nlohmann::json> flattened(const nlohmann::json& component, const char* key,
                                      int depth = 16);

/// {"String": text} or {"Regex": text}.
struct JsonPattern {
  std::string text;
  bool is_regex = false;
};
/// @throws core::ConfigError  longer than 64 KiB
JsonPattern parse_pattern(const nlohmann::json& pattern);

/// A text that a component puts into others: at most 1 KiB, so that no single step explodes one.
/// @throws core::ConfigError  longer
std::string parse_insertion(const nlohmann::json& node, const char* key);
std::string parse_insertion(const nlohmann::json& node, const char* key, const char* fallback);

/// Options of a BertNormalizer.
BertNormalizerOptions parse_bert_normalizer(const nlohmann::json& normalizer);

std::unique_ptr<const Normalizer> parse_normalizer(const nlohmann::json& component,
                                                   const std::filesystem::path& file);
/// @param raw_bytes  the last one is ByteLevel and need not spell: the model takes bytes
PreTokenizers parse_pre_tokenizers(const nlohmann::json& component, bool raw_bytes,
                                   const std::filesystem::path& file);
TokenDecoders parse_decoders(const nlohmann::json& component, const std::filesystem::path& file);

/// Special ids around one text.
struct Surroundings {
  std::vector<TokenId> prefix;
  std::vector<TokenId> suffix;
};
Surroundings parse_post_processor(const nlohmann::json& component,
                                  const std::filesystem::path& file);

std::unique_ptr<const TokenModel> parse_model(const nlohmann::json& model, bool raw_bytes,
                                              const std::filesystem::path& file);
/// The model's type; found out by its fields in old files that do not name it.
std::string model_type(const nlohmann::json& root);

/// Without their ids, which `tokenizers` does not heed: AddedTokenList gives them.
std::vector<AddedToken> parse_added_tokens(const nlohmann::json& root);

/// "a b" or ["a", "b"] → the two sides.
std::pair<std::string, std::string> parse_merge(const nlohmann::json& merge);

/// Whether the tokenizer is one that WordPieceTokenizer does: BERT's components and no others.
bool is_bert(const nlohmann::json& root);
/// Everything but the roles (WordPieceSpec::special), of one for which is_bert holds.
WordPieceSpec parse_wordpiece(const nlohmann::json& root, const std::filesystem::path& file);
/// Everything but the roles (PipelineSpec::special), of any.
PipelineSpec parse_pipeline(const nlohmann::json& root, const std::filesystem::path& file);

}  // namespace drystone::text
