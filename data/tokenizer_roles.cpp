#include "data/tokenizer_roles.h"

#include <algorithm>
#include <initializer_list>

#include "core/error.h"
#include "core/json.h"
#include "data/tokenizer_json.h"

namespace drystone::data {

using nlohmann::json;

namespace {

/// {"cls_token": "[CLS]"} or {"cls_token": {"content": "[CLS]", …}}; "" where it is absent.
std::string token_named(const json& object, const std::string& key) {
  const auto found = object.find(key);
  if (found == object.end()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object()) return found->value("content", "");
  return {};
}

json read_json_object(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return json::object();
  json value = read_json(file);
  if (!value.is_object()) throw core::ConfigError(file.string() + ": not a JSON object");
  return value;
}

}  // namespace

TokenizerRoles::TokenizerRoles(const std::filesystem::path& folder)
    : map_(read_json_object(folder / "special_tokens_map.json")),
      added_(read_json_object(folder / "added_tokens.json")),
      config_(read_json_object(folder / "tokenizer_config.json")) {}

std::string TokenizerRoles::token(const std::string& role, const std::string& fallback) const {
  for (const json* source : {&config_, &map_}) {
    if (std::string name = token_named(*source, role + "_token"); !name.empty()) return name;
  }
  return fallback;
}

SpecialIds TokenizerRoles::resolve(const IdOf& id_of) const {
  const auto id = [&](const char* role,
                      std::initializer_list<const char*> usual) -> std::optional<TokenId> {
    if (const std::string named = token(role, ""); !named.empty()) return id_of(named);
    for (const char* name : usual) {
      if (const auto found = id_of(name)) return found;
    }
    return std::nullopt;
  };
  return {.pad = id("pad", {"[PAD]", "<pad>", "<|pad|>", "<|padding|>"}),
          .unk = id("unk", {"[UNK]", "<unk>"}),
          .cls = id("cls", {"[CLS]"}),
          .sep = id("sep", {"[SEP]"}),
          .mask = id("mask", {"[MASK]", "<mask>"}),
          .bos = id("bos", {"<s>", "<bos>", "<|begin_of_text|>"}),
          .eos = id("eos", {"</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"})};
}

std::vector<AddedToken> TokenizerRoles::added_tokens() const {
  std::vector<AddedToken> tokens;
  const json listed = config_.value("added_tokens_decoder", json::object());
  for (const auto& [id, entry] : listed.items()) {
    tokens.push_back({.id = token_id(core::parse_json(id, "added_tokens_decoder")),
                      .content = entry.at("content").get<std::string>(),
                      .single_word = entry.value("single_word", false),
                      .lstrip = entry.value("lstrip", false),
                      .rstrip = entry.value("rstrip", false),
                      .normalized = entry.value("normalized", true),
                      .special = entry.value("special", false)});
  }
  if (!tokens.empty()) return tokens;
  for (const auto& [content, id] : added_.items()) {
    tokens.push_back({.id = token_id(id), .content = content});
  }
  return tokens;
}

void TokenizerRoles::add_special_tokens(
    const std::vector<std::pair<std::string, std::string>>& usual, const IdOf& id_of,
    std::vector<AddedToken>& tokens) const {
  for (const auto& [role, name] : usual) {
    const std::string content = token(role, name);
    const auto id = id_of(content);
    const bool is_listed = std::any_of(tokens.begin(), tokens.end(), [&](const AddedToken& added) {
      return added.content == content;
    });
    if (!id || is_listed) continue;
    tokens.push_back({.id = *id, .content = content, .special = true});
  }
}

}  // namespace drystone::data
