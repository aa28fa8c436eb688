#include "text/tokenizer_roles.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>

#include "core/error.h"
#include "core/text.h"
#include "text/tokenizer_json.h"

namespace drystone::text {

using nlohmann::json;

namespace {

constexpr std::array kRoles = {"bos_token", "eos_token", "unk_token", "sep_token",
                               "pad_token", "cls_token", "mask_token"};

json read_json_object(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return json::object();
  json value = read_json(file);
  if (!value.is_object()) throw core::ConfigError(file.string() + ": not a JSON object");
  return value;
}

AddedToken parse_token(const json& entry) {
  const bool is_special = value_or(entry, "special", false);
  return {.content = entry.at("content").get<std::string>(),
          .single_word = value_or(entry, "single_word", false),
          .lstrip = value_or(entry, "lstrip", false),
          .rstrip = value_or(entry, "rstrip", false),
          .normalized = value_or(entry, "normalized", !is_special),
          .special = is_special};
}

AddedToken special_token(std::string content) {
  return {.content = std::move(content), .special = true};
}

/// "[CLS]" or {"content": "[CLS]", …}; absent for anything else.
std::optional<AddedToken> token_of(const json& value, bool is_map) {
  if (value.is_string()) return special_token(value.get<std::string>());
  if (!value.is_object() || !member(value, "content").is_string()) return std::nullopt;
  json entry = value;
  if (is_map) entry["special"] = true;
  return parse_token(entry);
}

}  // namespace

TokenizerRoles::TokenizerRoles(const std::filesystem::path& folder)
    : file_(folder / "tokenizer_config.json"), config_(read_json_object(file_)) {
  try {
    read_named(config_, /*is_map=*/false);
    read_extra(config_, /*is_map=*/false);
    if (const auto listed = config_.find("added_tokens_decoder"); listed != config_.end()) {
      read_listed(*listed);
    } else {
      is_legacy_ = true;
      read_legacy(folder);
    }
  } catch (const json::exception& error) {
    refuse(file_, std::string("malformed (") + error.what() + "); fetch the file again");
  }
  const auto place = [](const Named& named) { return std::ranges::find(kRoles, named.key); };
  std::ranges::stable_sort(named_, std::less<>(), place);
}

void TokenizerRoles::read_named(const json& source, bool is_map) {
  for (const auto& [key, value] : source.items()) {
    if (!key.ends_with("_token")) continue;
    const auto token = token_of(value, is_map);
    if (!token) continue;
    Named entry{.key = key, .token = *token, .has_flags = value.is_object()};
    const auto held = std::ranges::find(named_, key, &Named::key);
    if (held == named_.end()) {
      named_.push_back(std::move(entry));
    } else {
      *held = std::move(entry);
    }
  }
}

void TokenizerRoles::read_extra(const json& source, bool is_map) {
  const json& extra = member(source, "extra_special_tokens");
  if (extra.is_object()) {
    for (const auto& [key, value] : extra.items()) {
      if (const auto token = token_of(value, is_map)) named_.push_back({key, *token, false});
    }
    return;
  }
  const bool has_extra = extra.is_array() && !extra.empty();
  const json& older = member(source, "additional_special_tokens");
  if (!has_extra && is_map && !extra_.empty()) return;
  for (const json& value : has_extra ? extra : older) {
    const auto token = token_of(value, is_map);
    if (token) extra_.push_back(*token);
  }
}

void TokenizerRoles::read_listed(const json& listed) {
  std::vector<std::pair<TokenId, AddedToken>> by_id;
  for (const auto& [key, entry] : listed.items()) {
    TokenId id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0) {
      refuse(file_,
             "added_tokens_decoder: " + core::quote(key) + " is no token id; fetch the file again");
    }
    by_id.emplace_back(id, parse_token(entry));
  }
  std::ranges::sort(by_id, std::less<>(), [](const auto& entry) { return entry.first; });
  for (auto& [id, token] : by_id) listed_.push_back(std::move(token));
}

void TokenizerRoles::read_legacy(const std::filesystem::path& folder) {
  const json map = read_json_object(folder / "special_tokens_map.json");
  read_named(map, /*is_map=*/true);
  read_extra(map, /*is_map=*/true);
  std::vector<std::pair<TokenId, std::string>> by_id;
  const json added = read_json_object(folder / "added_tokens.json");
  for (const auto& [content, id] : added.items()) by_id.emplace_back(token_id(id), content);
  std::ranges::sort(by_id);
  for (auto& [id, content] : by_id) {
    const auto is_same = [&](const AddedToken& token) { return token.content == content; };
    const bool is_special =
        std::ranges::any_of(named_, is_same, &Named::token) || std::ranges::any_of(extra_, is_same);
    listed_.push_back(
        {.content = std::move(content), .normalized = !is_special, .special = is_special});
  }
}

const TokenizerRoles::Named* TokenizerRoles::named(const std::string& key) const {
  const auto found = std::ranges::find(named_, key, &Named::key);
  return found == named_.end() ? nullptr : &*found;
}

std::map<std::string, std::string> TokenizerRoles::named() const {
  std::map<std::string, std::string> contents;
  for (const Named& entry : named_) contents[entry.key] = entry.token.content;
  return contents;
}

std::string TokenizerRoles::token(const std::string& role, const std::string& fallback) const {
  const Named* const found = named(role + "_token");
  return found == nullptr || found->token.content.empty() ? fallback : found->token.content;
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

bool TokenizerRoles::lists(const std::string& content) const {
  return std::ranges::find(listed_, content, &AddedToken::content) != listed_.end();
}

bool TokenizerRoles::is_named(const std::string& content) const {
  return std::ranges::any_of(named_,
                             [&](const Named& entry) { return entry.token.content == content; });
}

void TokenizerRoles::add_listed(AddedTokenList& tokens, bool is_own_list) const {
  std::vector<AddedToken> listed = listed_;
  if (is_legacy_ && is_own_list) {  // where both list a token, tokenizer.json has its flags
    std::erase_if(listed, [&](const AddedToken& token) { return tokens.find(token.content); });
    listed.insert(listed.begin(), tokens.tokens().begin(), tokens.tokens().end());
  }
  for (AddedToken& token : listed) {
    token.special = token.special || is_named(token.content);
    tokens.add(std::move(token));
  }
}

void TokenizerRoles::require_known_end(const AddedTokenList& tokens, const Named& entry) const {
  const std::string& content = entry.token.content;
  const bool is_extra = std::ranges::find(extra_, content, &AddedToken::content) != extra_.end();
  if (entry.key != "eos_token" || content.empty() || is_extra || tokens.id_of(content)) return;
  refuse(file_, "eos_token " + core::quote(content) +
                    " is not in the vocabulary, so that nothing would end a text; name the token "
                    "that the model was trained with, or list this one in added_tokens_decoder");
}

void TokenizerRoles::add_to(AddedTokenList& tokens, bool is_own_list) const {
  add_listed(tokens, is_own_list);
  for (const Named& entry : named_) {
    const std::string& content = entry.token.content;
    const bool overrides = entry.has_flags && !is_own_list && !lists(content);
    if (tokens.find(content) != nullptr && !overrides) continue;
    require_known_end(tokens, entry);
    AddedToken token = entry.token;
    token.special = true;
    tokens.add(std::move(token));
  }
  for (const AddedToken& token : extra_) {
    if (tokens.find(token.content) == nullptr) tokens.add(token);
  }
}

void TokenizerRoles::add_special_tokens(
    const std::vector<std::pair<std::string, std::string>>& usual, const IdOf& id_of,
    std::vector<AddedToken>& tokens) const {
  for (const auto& [role, name] : usual) {
    const std::string content = token(role, name);
    const bool is_listed = std::ranges::find(tokens, content, &AddedToken::content) != tokens.end();
    if (is_listed || !id_of(content)) continue;
    tokens.push_back(special_token(content));
  }
}

}  // namespace drystone::text
