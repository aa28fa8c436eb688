#include "text/token_pipeline.h"

#include <algorithm>
#include <atomic>
#include <limits>

#include "core/check.h"
#include "text/token_cache.h"
#include "text/utf8.h"

namespace drystone::text {

namespace {

std::size_t num_bytes(const std::vector<std::string>& tokens) {
  std::size_t sum = 0;
  for (const std::string& token : tokens) sum += token.size();
  return sum;
}

std::uint64_t next_number() {
  static std::atomic<std::uint64_t> last = 0;
  return ++last;
}

}  // namespace

/// One call of encode_into.
class PipelineTokenizer::Run {
 public:
  Run(const PipelineTokenizer& tokenizer, std::size_t end, std::vector<TokenId>& ids)
      : t_(tokenizer), last_(tokenizer, end, ids) {
    const auto& splitters = t_.spec_.pre_tokenizers;
    links_.reserve(splitters.size());
    for (std::size_t i = splitters.size(); i-- > 0;) links_.emplace_back(*splitters[i], first());
  }

  /// @return whether there is room for more ids
  bool text(std::string_view text) {
    return t_.raw_added_.split(
        text, [&](std::string_view part) { return section(part, part.data() == text.data()); },
        [this](TokenId id) { return last_.push(id); });
  }

 private:
  /// The model and its cache: where all words end up.
  class Last final : public WordSink {
   public:
    Last(const PipelineTokenizer& tokenizer, std::size_t end, std::vector<TokenId>& ids)
        : model_(*tokenizer.spec_.model),
          cache_(TokenCache::of_thread(tokenizer.number_)),
          end_(end),
          ids_(ids) {}

    bool word(std::string_view word, bool) override {
      const auto place = cache_.find(word);
      if (place.is_hit()) {
        place.append_to(ids_);
      } else {
        const std::size_t before = ids_.size();
        model_.encode(word, ids_);
        cache_.store(place, word, std::span<const TokenId>(ids_).subspan(before));
      }
      return ids_.size() < end_;
    }

    bool push(TokenId id) {
      ids_.push_back(id);
      return ids_.size() < end_;
    }

   private:
    const TokenModel& model_;
    TokenCache& cache_;
    std::size_t end_;
    std::vector<TokenId>& ids_;
  };

  /// A pre-tokenizer that hands its words to the next.
  class Link final : public WordSink {
   public:
    Link(const PreTokenizer& splitter, WordSink& next) : splitter_(splitter), next_(next) {}
    bool word(std::string_view word, bool is_start) override {
      return splitter_.split(word, is_start, buffer_, next_);
    }

   private:
    const PreTokenizer& splitter_;
    WordSink& next_;
    std::string buffer_;
  };

  WordSink& first() { return links_.empty() ? static_cast<WordSink&>(last_) : links_.back(); }

  /// Raw text between added tokens.
  bool section(std::string_view text, bool is_start) {
    if (t_.spec_.normalizer) {
      is_start = t_.spec_.normalizer->apply(text, is_start, normalized_) && is_start;
      text = normalized_;
    }
    if (text.empty()) return true;
    return t_.normalized_added_.split(
        text,
        [&](std::string_view part) {
          return first().word(part, is_start && part.data() == text.data());
        },
        [this](TokenId id) { return last_.push(id); });
  }

  const PipelineTokenizer& t_;
  Last last_;
  std::vector<Link> links_;  ///< the last pre-tokenizer comes first
  std::string normalized_;
};

PipelineTokenizer::PipelineTokenizer(PipelineSpec spec)
    : spec_(std::move(spec)), number_(next_number()), size_(spec_.model->vocabulary().size()) {
  place_added_tokens();
  spec_.pre_tokenizers.push_back(make_metaspace_cuts(*spec_.model));
}

void PipelineTokenizer::place_added_tokens() {
  std::vector<AddedToken> raw;
  std::vector<AddedToken> normalized;
  for (AddedToken& token : spec_.added_tokens) {
    core::require(token.id >= 0 && token.id < TokenVocabulary::kMostTokens,
                  "token id out of range: " + std::to_string(token.id));
    size_ = std::max<std::int64_t>(size_, token.id + 1);
    added_ids_[token.content] = token.id;
    if (token.special) special_tokens_.insert(token.content);
    Added& added = added_[token.id];
    added = {token.content, token.content};
    if (token.normalized && spec_.normalizer) {
      spec_.normalizer->apply(added.content, /*is_start=*/true, token.content);
      added.decoded = token.content;
    }
    (token.normalized ? normalized : raw).push_back(std::move(token));
  }
  spec_.added_tokens.clear();
  special_tokens_.insert(spec_.hidden_tokens.begin(), spec_.hidden_tokens.end());
  raw_added_ = AddedTokens(std::move(raw));
  normalized_added_ = AddedTokens(std::move(normalized));
}

void PipelineTokenizer::encode_into(std::string_view text, std::int64_t max_length,
                                    bool add_special, std::vector<TokenId>& ids) const {
  const std::size_t num_special = add_special ? spec_.prefix.size() + spec_.suffix.size() : 0;
  require_room(max_length, num_special);
  const auto limit = static_cast<std::size_t>(max_length);
  if (add_special) ids.insert(ids.end(), spec_.prefix.begin(), spec_.prefix.end());
  const std::size_t prefix_size = add_special ? spec_.prefix.size() : 0;
  const std::size_t end = limit == 0
                              ? std::numeric_limits<std::size_t>::max()
                              : ids.size() - prefix_size + limit - (num_special - prefix_size);
  if (ids.size() < end) {
    std::string repaired;
    if (find_invalid_utf8(text)) {
      repaired = valid_utf8(std::string(text));
      text = repaired;
    }
    Run(*this, end, ids).text(text);
  }
  if (ids.size() > end) ids.resize(end);
  if (add_special) ids.insert(ids.end(), spec_.suffix.begin(), spec_.suffix.end());
}

std::string PipelineTokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const TokenId id : ids) {
    const auto added = added_.find(id);
    std::string text(added != added_.end() ? added->second.decoded
                                           : spec_.model->vocabulary().token(id));
    if (added == added_.end() && !spec_.model->vocabulary().holds(id)) continue;
    if (skip_special && special_tokens_.contains(text)) continue;
    tokens.push_back(std::move(text));
  }
  if (tokens.empty()) return {};
  const std::size_t size = num_bytes(tokens);
  for (const auto& decoder : spec_.decoders) {
    decoder->apply(tokens);
    require_growth(num_bytes(tokens), size);
  }
  std::string text;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0 && spec_.joins_by_space) text += ' ';
    text += tokens[i];
  }
  return text;
}

std::optional<TokenId> PipelineTokenizer::id_of(std::string_view token) const {
  const auto added = added_ids_.find(std::string(token));
  return added == added_ids_.end() ? spec_.model->vocabulary().find(token)
                                   : std::optional(added->second);
}

std::string_view PipelineTokenizer::token(TokenId id) const {
  const auto added = added_.find(id);
  return added == added_.end() ? spec_.model->vocabulary().token(id)
                               : std::string_view(added->second.content);
}

}  // namespace drystone::text
