#pragma once
// What special_tokens_map.json, tokenizer_config.json and added_tokens.json say beside the
// tokenizer. Private to this folder: shows the JSON library.

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/added_tokens.h"

namespace drystone::data {

class TokenizerRoles {
 public:
  using IdOf = std::function<std::optional<TokenId>(const std::string&)>;

  /// @throws core::ConfigError  one of the files is malformed
  explicit TokenizerRoles(const std::filesystem::path& folder);

  /// tokenizer_config.json; an empty object where there is none.
  const nlohmann::json& config() const { return config_; }

  /// The token of a role ("cls", "eos") as the files name it, else `fallback`.
  std::string token(const std::string& role, const std::string& fallback) const;

  /// The ids of all roles. A role that no file names goes to the first of the names that are usual
  /// for it and that the tokenizer has.
  SpecialIds resolve(const IdOf& id_of) const;

  /// Tokens that tokenizer_config.json adds, {"added_tokens_decoder": {"7": {…}, …}}, and, where it
  /// adds none, those of added_tokens.json: {"<new>": 7, …}.
  std::vector<AddedToken> added_tokens() const;

  /// Adds the special tokens of the files that `tokens` does not list: they are cut out of the
  /// text even where no file lists them as added. `usual` are names by role to go by where no file
  /// names the role.
  void add_special_tokens(const std::vector<std::pair<std::string, std::string>>& usual,
                          const IdOf& id_of, std::vector<AddedToken>& tokens) const;

 private:
  nlohmann::json map_;
  nlohmann::json added_;
  nlohmann::json config_;
};

}  // namespace drystone::data
