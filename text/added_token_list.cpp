#include "text/added_token_list.h"

#include <algorithm>
#include <utility>

#include "text/token_vocabulary.h"

namespace drystone::text {

AddedTokenList::AddedTokenList(IdOf model_id, TokenId model_size)
    : model_id_(std::move(model_id)), next_(model_size) {}

void AddedTokenList::add(AddedToken token) {
  if (token.content.empty()) return;
  TokenVocabulary::require_length(token.content);
  const auto [place, is_new] = places_.try_emplace(token.content, tokens_.size());
  if (!is_new) {
    AddedToken& held = tokens_[place->second];
    token.id = held.id;
    token.special = token.special || held.special;
    held = std::move(token);
    return;
  }
  const auto known = model_id_(token.content);
  token.id = known.value_or(next_);
  next_ = std::max(next_, token.id + 1);
  tokens_.push_back(std::move(token));
}

const AddedToken* AddedTokenList::find(const std::string& content) const {
  const auto found = places_.find(content);
  return found == places_.end() ? nullptr : &tokens_[found->second];
}

std::optional<TokenId> AddedTokenList::id_of(const std::string& content) const {
  const AddedToken* const added = find(content);
  return added == nullptr ? model_id_(content) : std::optional(added->id);
}

}  // namespace drystone::text
