#include "text/tokenizer_json.h"

#include <limits>

#include "core/error.h"
#include "core/json.h"
#include "core/json_object.h"

namespace drystone::text {

using nlohmann::json;

namespace {

std::vector<std::pair<std::string, TokenId>> parse_vocabulary(const json& vocabulary) {
  std::vector<std::pair<std::string, TokenId>> entries;
  entries.reserve(vocabulary.size());
  for (const auto& [token, id] : vocabulary.items()) entries.emplace_back(token, token_id(id));
  return entries;
}

void parse_template(const json& processor, const std::filesystem::path& file,
                    Surroundings& around) {
  std::vector<TokenId> before;
  std::vector<TokenId> after;
  std::vector<TokenId>* side = &before;
  for (const json& item : processor.at("single")) {
    if (item.contains("Sequence")) {
      if (side == &after) refuse(file, "post_processor uses the text twice");
      side = &after;
      continue;
    }
    const auto name = item.at("SpecialToken").at("id").get<std::string>();
    const json& ids = processor.at("special_tokens").at(name).at("ids");
    for (const json& id : ids) side->push_back(token_id(id));
  }
  if (side == &before) refuse(file, "post_processor leaves the text out");
  around.prefix.insert(around.prefix.begin(), before.begin(), before.end());
  around.suffix.insert(around.suffix.end(), after.begin(), after.end());
}

}  // namespace

void refuse(const std::filesystem::path& file, const std::string& problem) {
  throw core::ConfigError(file.string() + ": " + problem);
}

void refuse_type(const std::filesystem::path& file, std::string_view component,
                 const std::string& type, std::string_view works) {
  refuse(file, std::string(component) + " " + (type.empty() ? "without a type" : type) +
                   " is not supported; those that work: " + std::string(works));
}

const json& member(const json& object, const char* key) {
  static const json null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

TokenId token_id(const json& value) {
  const bool is_id =
      value.is_number_unsigned() && value <= std::uint64_t{std::numeric_limits<TokenId>::max()};
  if (!is_id) {
    throw core::ConfigError(core::shown(value) + " is not a token id; fetch the file again");
  }
  return value.get<TokenId>();
}

std::string type_of(const json& component) {
  return component.is_object() ? value_or<std::string>(component, "type", {}) : std::string();
}

std::vector<json> flattened(const json& component, const char* key, int depth) {
  if (component.is_null()) return {};
  if (type_of(component) != "Sequence") return {component};
  if (depth == 0) throw core::ConfigError(std::string(key) + " are nested too deep");
  constexpr std::size_t kMostComponents = 256;
  std::vector<json> all;
  for (const json& part : component.at(key)) {
    for (json& one : flattened(part, key, depth - 1)) all.push_back(std::move(one));
    if (all.size() > kMostComponents) {
      throw core::ConfigError(std::string(key) + " are more than " +
                              std::to_string(kMostComponents));
    }
  }
  return all;
}

JsonPattern parse_pattern(const json& pattern) {
  constexpr std::size_t kMostBytes = std::size_t{1} << 16;
  const bool is_regex = pattern.contains("Regex");
  auto text = pattern.at(is_regex ? "Regex" : "String").get<std::string>();
  if (text.size() > kMostBytes) throw core::ConfigError("a pattern is longer than 64 KiB");
  return {std::move(text), is_regex};
}

std::string parse_insertion(const json& node, const char* key) {
  constexpr std::size_t kMostBytes = std::size_t{1} << 10;
  auto text = node.at(key).get<std::string>();
  if (text.size() > kMostBytes) {
    throw core::ConfigError(std::string(key) + " is longer than 1 KiB");
  }
  return text;
}

std::string parse_insertion(const json& node, const char* key, const char* fallback) {
  return member(node, key).is_null() ? fallback : parse_insertion(node, key);
}

BertNormalizerOptions parse_bert_normalizer(const json& normalizer) {
  BertNormalizerOptions options;
  options.clean_text = value_or(normalizer, "clean_text", true);
  options.handle_chinese_chars = value_or(normalizer, "handle_chinese_chars", true);
  options.lowercase = value_or(normalizer, "lowercase", true);
  options.strip_accents = value_or(normalizer, "strip_accents", options.lowercase);
  return options;
}

std::string model_type(const json& root) {
  const json& model = root.at("model");
  std::string type = type_of(model);
  if (!type.empty()) return type;
  if (model.contains("merges")) return "BPE";
  if (model.contains("max_input_chars_per_word")) return "WordPiece";
  return member(model, "vocab").is_array() ? "Unigram" : "WordLevel";
}

std::vector<AddedToken> parse_added_tokens(const json& root) {
  std::vector<AddedToken> tokens;
  for (const json& entry : member(root, "added_tokens")) {
    tokens.push_back({.content = entry.at("content").get<std::string>(),
                      .single_word = value_or(entry, "single_word", false),
                      .lstrip = value_or(entry, "lstrip", false),
                      .rstrip = value_or(entry, "rstrip", false),
                      .normalized = value_or(entry, "normalized", true),
                      .special = value_or(entry, "special", false)});
  }
  return tokens;
}

Surroundings parse_post_processor(const json& component, const std::filesystem::path& file) {
  Surroundings around;
  for (const json& processor : flattened(component, "processors")) {
    const std::string type = type_of(processor);
    if (type == "ByteLevel") continue;  // moves offsets only
    if (type == "TemplateProcessing") {
      parse_template(processor, file, around);
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      // stored as [token, id]
      around.prefix.insert(around.prefix.begin(), token_id(processor.at("cls").at(1)));
      around.suffix.push_back(token_id(processor.at("sep").at(1)));
    } else {
      refuse_type(file, "post_processor", type,
                  "TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel, Sequence");
    }
  }
  return around;
}

bool is_bert(const json& root) {
  const std::string normalizer = type_of(member(root, "normalizer"));
  const std::string decoder = type_of(member(root, "decoder"));
  return model_type(root) == "WordPiece" &&
         (member(root, "normalizer").is_null() || normalizer == "BertNormalizer") &&
         type_of(member(root, "pre_tokenizer")) == "BertPreTokenizer" &&
         (member(root, "decoder").is_null() || decoder == "WordPiece");
}

WordPieceSpec parse_wordpiece(const json& root, const std::filesystem::path& file) {
  WordPieceSpec spec;
  const json& model = root.at("model");
  spec.vocabulary = parse_vocabulary(model.at("vocab"));
  spec.unk_token = value_or<std::string>(model, "unk_token", "[UNK]");
  spec.continuation_prefix = value_or<std::string>(model, "continuing_subword_prefix", "##");
  spec.max_word_chars = value_or<std::size_t>(model, "max_input_chars_per_word", 100);
  const json& normalizer = member(root, "normalizer");
  spec.normalizer = normalizer.is_null() ? BertNormalizerOptions{false, false, false, false}
                                         : parse_bert_normalizer(normalizer);
  spec.added_tokens = parse_added_tokens(root);
  Surroundings around = parse_post_processor(member(root, "post_processor"), file);
  spec.prefix = std::move(around.prefix);
  spec.suffix = std::move(around.suffix);
  const json& decoder = member(root, "decoder");
  spec.decoder_prefix = decoder.is_null() ? "" : value_or<std::string>(decoder, "prefix", "##");
  spec.decoder_cleanup = !decoder.is_null() && value_or(decoder, "cleanup", true);
  return spec;
}

PipelineSpec parse_pipeline(const json& root, const std::filesystem::path& file) {
  PipelineSpec spec;
  const json& pre_tokenizer = member(root, "pre_tokenizer");
  const auto splitters = flattened(pre_tokenizer, "pretokenizers");
  const json& model = root.at("model");
  const bool has_affixes = !value_or<std::string>(model, "continuing_subword_prefix", {}).empty() ||
                           !value_or<std::string>(model, "end_of_word_suffix", {}).empty();
  const bool raw_bytes = model_type(root) == "BPE" && !has_affixes && !splitters.empty() &&
                         type_of(splitters.back()) == "ByteLevel";
  spec.normalizer = parse_normalizer(member(root, "normalizer"), file);
  spec.pre_tokenizers = parse_pre_tokenizers(pre_tokenizer, raw_bytes, file);
  spec.model = parse_model(root, raw_bytes, file);
  spec.added_tokens = parse_added_tokens(root);
  Surroundings around = parse_post_processor(member(root, "post_processor"), file);
  spec.prefix = std::move(around.prefix);
  spec.suffix = std::move(around.suffix);
  spec.decoders = parse_decoders(member(root, "decoder"), file);
  spec.joins_by_space = member(root, "decoder").is_null();
  return spec;
}

json read_json(const std::filesystem::path& file) {
  constexpr core::JsonLimits kLimits{.max_bytes = std::uint64_t{1} << 28,
                                     .max_values = std::size_t{1} << 24};
  return core::read_json(file, kLimits);
}

}  // namespace drystone::text
