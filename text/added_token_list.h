#pragma once
// Added tokens as Hugging Face's `tokenizers` numbers and overrides them.

#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "text/added_tokens.h"

namespace drystone::text {

/// A token's id is the model's where the model has it. Others follow the model's ids and each other
/// in the order in which they are added: an id that a file writes beside them does not count. A
/// token that is added again keeps its id and gets the new flags; special it remains.
class AddedTokenList {
 public:
  using IdOf = std::function<std::optional<TokenId>(const std::string&)>;

  /// @param model_id    the id that the model itself gives a token
  /// @param model_size  one more than the largest of these
  AddedTokenList(IdOf model_id, TokenId model_size);

  /// Of no effect for an empty one. @throws core::InvalidArgument  it is too long
  void add(AddedToken token);
  /// Null if it was not added.
  const AddedToken* find(const std::string& content) const;
  std::optional<TokenId> id_of(const std::string& content) const;

  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  IdOf model_id_;
  TokenId next_;
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, std::size_t> places_;
};

}  // namespace drystone::text
