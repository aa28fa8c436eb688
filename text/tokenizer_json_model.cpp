// The model of tokenizer.json.

#include "core/error.h"
#include "text/token_word_models.h"
#include "text/tokenizer_json.h"
#include "text/unigram.h"

namespace drystone::text {

using nlohmann::json;

namespace {

std::vector<std::pair<std::string, TokenId>> vocabulary_of(const json& model) {
  std::vector<std::pair<std::string, TokenId>> entries;
  const json& vocabulary = model.at("vocab");
  entries.reserve(vocabulary.size());
  for (const auto& [token, id] : vocabulary.items()) entries.emplace_back(token, token_id(id));
  return entries;
}

std::unique_ptr<const TokenModel> parse_bpe(const json& model, bool raw_bytes,
                                            const std::filesystem::path& file) {
  if (value_or(model, "dropout", 0.0) != 0.0) {
    refuse(file, "model BPE: dropout is not supported; set it to null");
  }
  BpeSpec spec;
  spec.vocabulary = vocabulary_of(model);
  for (const json& merge : model.at("merges")) spec.merges.push_back(parse_merge(merge));
  const json& unk = member(model, "unk_token");
  if (!unk.is_null()) spec.unk_token = unk.get<std::string>();
  spec.continuing_prefix = value_or<std::string>(model, "continuing_subword_prefix", {});
  spec.end_suffix = value_or<std::string>(model, "end_of_word_suffix", {});
  spec.fuse_unk = value_or(model, "fuse_unk", false);
  spec.byte_fallback = value_or(model, "byte_fallback", false);
  spec.ignore_merges = value_or(model, "ignore_merges", false);
  spec.raw_bytes = raw_bytes;
  return std::make_unique<BpeModel>(std::move(spec));
}

std::unique_ptr<const TokenModel> parse_unigram(const json& model) {
  UnigramSpec spec;
  for (const json& piece : model.at("vocab")) {
    spec.pieces.emplace_back(piece.at(0).get<std::string>(), piece.at(1).get<double>());
  }
  const json& unk = member(model, "unk_id");
  if (!unk.is_null()) spec.unk = token_id(unk);
  spec.byte_fallback = value_or(model, "byte_fallback", false);
  return std::make_unique<UnigramModel>(std::move(spec));
}

WordModelSpec parse_words(const json& model) {
  WordModelSpec spec;
  spec.vocabulary = vocabulary_of(model);
  spec.unk_token = value_or<std::string>(model, "unk_token", "[UNK]");
  spec.continuation_prefix = value_or<std::string>(model, "continuing_subword_prefix", "##");
  spec.max_word_chars = value_or<std::size_t>(model, "max_input_chars_per_word", 100);
  return spec;
}

}  // namespace

std::pair<std::string, std::string> parse_merge(const json& merge) {
  if (merge.is_array()) return {merge.at(0).get<std::string>(), merge.at(1).get<std::string>()};
  const auto text = merge.get<std::string>();
  const std::size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
    throw core::ConfigError("merge \"" + text + "\" is not two tokens with a space between");
  }
  return {text.substr(0, space), text.substr(space + 1)};
}

std::unique_ptr<const TokenModel> parse_model(const json& root, bool raw_bytes,
                                              const std::filesystem::path& file) {
  const std::string type = model_type(root);
  const json& model = root.at("model");
  if (type == "BPE") return parse_bpe(model, raw_bytes, file);
  if (type == "Unigram") return parse_unigram(model);
  if (type == "WordPiece") return std::make_unique<WordPieceModel>(parse_words(model));
  if (type == "WordLevel") return std::make_unique<WordLevelModel>(parse_words(model));
  refuse_type(file, "model type", type, "BPE, Unigram, WordPiece, WordLevel");
}

}  // namespace drystone::text
