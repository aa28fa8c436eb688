#pragma once
// What tokenizer_config.json, special_tokens_map.json and added_tokens.json say beside the
// tokenizer. Private to this folder: shows the JSON library.

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "text/added_token_list.h"

namespace drystone::text {

/// As transformers reads them: special_tokens_map.json (which then wins) and added_tokens.json
/// count only where tokenizer_config.json has no "added_tokens_decoder".
class TokenizerRoles {
 public:
  using IdOf = AddedTokenList::IdOf;

  /// @throws core::ConfigError  one of the files is malformed
  explicit TokenizerRoles(const std::filesystem::path& folder);

  /// tokenizer_config.json; an empty object where there is none.
  const nlohmann::json& config() const { return config_; }

  /// The token of a role ("cls", "eos") as the files name it, else `fallback`.
  std::string token(const std::string& role, const std::string& fallback) const;
  /// Every named token by its key: "bos_token", …, "image_token".
  std::map<std::string, std::string> named() const;

  /// The ids of all roles. A role that no file names goes to the first of the names that are usual
  /// for it and that the tokenizer has.
  SpecialIds resolve(const IdOf& id_of) const;

  /// Whether "added_tokens_decoder" or added_tokens.json lists a token.
  bool lists(const std::string& content) const;

  /// Adds what the files list and name beside the tokens that are there.
  /// @param is_own_list  `tokens` are those of tokenizer.json, whose flags a mere name leaves as
  ///                     they are; otherwise they are what is usual for the model
  /// @throws core::ConfigError  the token that ends texts is in no list and no vocabulary
  void add_to(AddedTokenList& tokens, bool is_own_list) const;

  /// Adds the special tokens of the model that `tokens` does not hold: they are cut out of the text
  /// even where no file lists them as added. `usual` are names by role to go by where no file names
  /// the role.
  void add_special_tokens(const std::vector<std::pair<std::string, std::string>>& usual,
                          const IdOf& id_of, std::vector<AddedToken>& tokens) const;

 private:
  struct Named {
    std::string key;  ///< "eos_token"
    AddedToken token;
    bool has_flags = false;
  };

  void read_named(const nlohmann::json& source, bool is_map);
  void read_extra(const nlohmann::json& source, bool is_map);
  void read_listed(const nlohmann::json& listed);
  void read_legacy(const std::filesystem::path& folder);
  const Named* named(const std::string& key) const;
  bool is_named(const std::string& content) const;
  void add_listed(AddedTokenList& tokens, bool is_own_list) const;
  void require_known_end(const AddedTokenList& tokens, const Named& entry) const;

  std::filesystem::path file_;  ///< tokenizer_config.json, for messages
  nlohmann::json config_;
  bool is_legacy_ = false;          ///< the configuration lists no tokens: the older files count
  std::vector<Named> named_;        ///< roles first, in transformers' order
  std::vector<AddedToken> extra_;   ///< special tokens without a role
  std::vector<AddedToken> listed_;  ///< by ascending id
};

}  // namespace drystone::text
