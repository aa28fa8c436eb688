#include "data/tokenizer_json.h"

#include <fstream>
#include <map>

#include "core/error.h"

namespace drystone::data {

namespace {

using nlohmann::json;

constexpr const char* kWhatWorks =
    "tokenizers that work: WordPiece with BertNormalizer and BertPreTokenizer";

[[noreturn]] void refuse(const std::filesystem::path& file, const std::string& problem) {
  throw core::ConfigError(file.string() + ": " + problem);
}

/// Value of `key`, or `fallback` where it is absent or null.
template <typename T>
T value_or(const json& object, const char* key, T fallback) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return fallback;
  return found->get<T>();
}

/// The component's "type", "" where it is absent or null.
std::string type_of(const json& root, const char* component) {
  const auto found = root.find(component);
  if (found == root.end() || found->is_null()) return {};
  return value_or<std::string>(*found, "type", {});
}

/// Old files name no type: WordPiece is the only one with this field.
std::string model_type(const json& root) {
  const std::string type = type_of(root, "model");
  return type.empty() && root.at("model").contains("max_input_chars_per_word") ? "WordPiece" : type;
}

std::vector<std::pair<std::string, TokenId>> parse_vocabulary(const json& vocabulary) {
  std::vector<std::pair<std::string, TokenId>> entries;
  entries.reserve(vocabulary.size());
  for (const auto& [token, id] : vocabulary.items()) entries.emplace_back(token, id.get<TokenId>());
  return entries;
}

std::vector<AddedToken> parse_added_tokens(const json& root,
                                           const std::map<std::string, TokenId>& known) {
  std::vector<AddedToken> tokens;
  for (const json& entry : root.value("added_tokens", json::array())) {
    AddedToken token{.id = entry.at("id").get<TokenId>(),
                     .content = entry.at("content").get<std::string>(),
                     .single_word = value_or(entry, "single_word", false),
                     .lstrip = value_or(entry, "lstrip", false),
                     .rstrip = value_or(entry, "rstrip", false),
                     .normalized = value_or(entry, "normalized", true),
                     .special = value_or(entry, "special", false)};
    const auto found = known.find(token.content);
    if (found != known.end()) token.id = found->second;  // the vocabulary's id wins
    tokens.push_back(std::move(token));
  }
  return tokens;
}

BertNormalizerOptions parse_normalizer(const json& root, const std::filesystem::path& file) {
  const std::string type = type_of(root, "normalizer");
  if (type.empty()) return {false, false, false, false};
  if (type != "BertNormalizer") {
    refuse(file, "normalizer " + type + " is not supported; " + kWhatWorks);
  }
  const json& normalizer = root.at("normalizer");
  BertNormalizerOptions options;
  options.clean_text = value_or(normalizer, "clean_text", true);
  options.handle_chinese_chars = value_or(normalizer, "handle_chinese_chars", true);
  options.lowercase = value_or(normalizer, "lowercase", true);
  options.strip_accents = value_or(normalizer, "strip_accents", options.lowercase);
  return options;
}

void parse_template(const json& processor, const std::filesystem::path& file, WordPieceSpec& spec) {
  std::vector<TokenId>* side = &spec.prefix;
  for (const json& item : processor.at("single")) {
    if (item.contains("Sequence")) {
      if (side == &spec.suffix) refuse(file, "post_processor uses the text twice");
      side = &spec.suffix;
      continue;
    }
    const auto name = item.at("SpecialToken").at("id").get<std::string>();
    const json& ids = processor.at("special_tokens").at(name).at("ids");
    for (const json& id : ids) side->push_back(id.get<TokenId>());
  }
  if (side == &spec.prefix) refuse(file, "post_processor leaves the text out");
}

void parse_post_processor(const json& root, const std::filesystem::path& file,
                          WordPieceSpec& spec) {
  const std::string type = type_of(root, "post_processor");
  if (type.empty()) return;
  const json& processor = root.at("post_processor");
  if (type == "TemplateProcessing") return parse_template(processor, file, spec);
  if (type != "BertProcessing" && type != "RobertaProcessing") {
    refuse(file, "post_processor " + type +
                     " is not supported; those that work: TemplateProcessing, BertProcessing, "
                     "RobertaProcessing");
  }
  spec.prefix = {processor.at("cls").at(1).get<TokenId>()};  // stored as [token, id]
  spec.suffix = {processor.at("sep").at(1).get<TokenId>()};
}

void parse_decoder(const json& root, const std::filesystem::path& file, WordPieceSpec& spec) {
  const std::string type = type_of(root, "decoder");
  if (type.empty()) {  // tokens joined by spaces
    spec.decoder_prefix.clear();
    spec.decoder_cleanup = false;
    return;
  }
  if (type != "WordPiece") {
    refuse(file, "decoder " + type + " is not supported; the one that works: WordPiece");
  }
  spec.decoder_prefix = value_or<std::string>(root.at("decoder"), "prefix", "##");
  spec.decoder_cleanup = value_or(root.at("decoder"), "cleanup", true);
}

WordPieceSpec parse_checked(const json& root, const std::filesystem::path& file) {
  const std::string type = model_type(root);
  if (type != "WordPiece") {
    refuse(file,
           "model type " + (type.empty() ? "(none)" : type) + " is not supported; " + kWhatWorks);
  }
  const std::string pre = type_of(root, "pre_tokenizer");
  if (pre != "BertPreTokenizer") {
    refuse(file,
           "pre_tokenizer " + (pre.empty() ? "null" : pre) + " is not supported; " + kWhatWorks);
  }
  WordPieceSpec spec;
  const json& model = root.at("model");
  spec.vocabulary = parse_vocabulary(model.at("vocab"));
  spec.unk_token = value_or<std::string>(model, "unk_token", "[UNK]");
  spec.continuation_prefix = value_or<std::string>(model, "continuing_subword_prefix", "##");
  spec.max_word_chars = value_or<std::size_t>(model, "max_input_chars_per_word", 100);
  spec.normalizer = parse_normalizer(root, file);
  spec.added_tokens = parse_added_tokens(root, {spec.vocabulary.begin(), spec.vocabulary.end()});
  parse_post_processor(root, file, spec);
  parse_decoder(root, file, spec);
  return spec;
}

}  // namespace

nlohmann::json read_json(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw core::IoError(file.string() + ": cannot open; check the path and its rights");
  try {
    return json::parse(stream);
  } catch (const json::exception& error) {
    refuse(file, std::string("not valid JSON (") + error.what() + "); fetch the file again");
  }
}

WordPieceSpec parse_wordpiece(const nlohmann::json& root, const std::filesystem::path& file) {
  try {
    return parse_checked(root, file);
  } catch (const json::exception& error) {
    refuse(file, std::string("malformed tokenizer (") + error.what() + "); fetch the file again");
  }
}

}  // namespace drystone::data
