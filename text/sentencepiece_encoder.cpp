// SentencePiece's two ways to split a normalized text into pieces.

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "core/error.h"
#include "text/bpe_merges.h"
#include "text/metaspace.h"
#include "text/sentencepiece.h"
#include "text/trie.h"
#include "text/unigram_lattice.h"
#include "text/utf8.h"

namespace drystone::text {

namespace {

constexpr TokenId kUnknownCharacter = -1;

std::vector<std::pair<std::string, TokenId>> numbered(const SentencePieceModel& model) {
  std::vector<std::pair<std::string, TokenId>> entries;
  for (const SentencePiece& piece : model.pieces) {
    entries.emplace_back(piece.text, static_cast<TokenId>(entries.size()));
  }
  return entries;
}

bool is_in_text(PieceType type) {
  return type == PieceType::Normal || type == PieceType::UserDefined;
}

Trie trie_of(const SentencePieceModel& model, auto&& wants) {
  std::vector<std::pair<std::string, std::int32_t>> entries;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePiece& piece = model.pieces[id];
    if (wants(piece.type)) entries.emplace_back(piece.text, static_cast<std::int32_t>(id));
  }
  return Trie(std::move(entries));
}

std::size_t character_size(std::string_view text) {
  std::size_t size = 0;
  decode_utf8(text, size);
  return size;
}

/// What both have in common: the vocabulary and what becomes of unknown characters.
class Encoder : public TokenModel {
 public:
  explicit Encoder(const SentencePieceModel& model) : vocabulary_(numbered(model)) {
    const auto unk =
        std::find_if(model.pieces.begin(), model.pieces.end(),
                     [](const SentencePiece& piece) { return piece.type == PieceType::Unknown; });
    unk_ = static_cast<TokenId>(unk - model.pieces.begin());
    bytes_.fill(unk_);
    for (std::size_t byte = 0; byte < bytes_.size() && model.byte_fallback; ++byte) {
      const auto id =
          vocabulary_.find(TokenVocabulary::byte_token(static_cast<unsigned char>(byte)));
      has_bytes_ = id.has_value();
      if (!has_bytes_) throw core::ConfigError("a piece for one of the 256 bytes is missing");
      bytes_[byte] = *id;
    }
  }

  const TokenVocabulary& vocabulary() const override { return vocabulary_; }

 protected:
  /// Writes pieces; unknown characters in a row are one unknown token.
  class Writer {
   public:
    Writer(const Encoder& encoder, std::vector<TokenId>& ids) : e_(encoder), ids_(ids) {}

    void known(TokenId id) {
      ids_.push_back(id);
      was_unknown_ = false;
    }
    void unknown(std::string_view text) {
      if (e_.has_bytes_) {
        for (const char c : text) ids_.push_back(e_.bytes_[static_cast<unsigned char>(c)]);
        return;
      }
      if (!was_unknown_) ids_.push_back(e_.unk_);
      was_unknown_ = true;
    }

   private:
    const Encoder& e_;
    std::vector<TokenId>& ids_;
    bool was_unknown_ = false;
  };

  TokenId unk() const { return unk_; }

 private:
  TokenVocabulary vocabulary_;
  TokenId unk_ = 0;
  bool has_bytes_ = false;
  std::array<TokenId, 256> bytes_{};
};

/// Unigram, with SentencePiece's float sums.
class UnigramEncoder final : public Encoder {
 public:
  explicit UnigramEncoder(const SentencePieceModel& model)
      : Encoder(model), trie_(trie_of(model, is_in_text)) {
    float lowest = std::numeric_limits<float>::max();
    for (const SentencePiece& piece : model.pieces) {
      scores_.push_back(piece.score);
      is_user_defined_.push_back(piece.type == PieceType::UserDefined);
      if (piece.type == PieceType::Normal) lowest = std::min(lowest, piece.score);
    }
    constexpr float kUnkPenalty = 10;
    unk_score_ = lowest - kUnkPenalty;
  }

  void encode(std::string_view text, std::vector<TokenId>& ids) const override {
    constexpr std::size_t kKeptBytes = 1 << 16;  // a longer text's memory is given back
    thread_local UnigramLattice<float> lattice;
    Writer out(*this, ids);
    const auto& parts = lattice.solve(
        text, trie_, unk_score_, unk(),
        [this](TokenId id, std::size_t size) { return score(static_cast<std::size_t>(id), size); });
    for (const auto& part : parts) {
      if (part.id == unk()) {
        out.unknown(text.substr(part.begin, part.end - part.begin));
      } else {
        out.known(part.id);
      }
    }
    if (text.size() > kKeptBytes) lattice = {};
  }

 private:
  /// A user-defined piece scores so high that it is always taken.
  double score(std::size_t id, std::size_t size) const {
    constexpr double kPerByte = 0.1;
    const float score = is_user_defined_[id]
                            ? static_cast<float>(kPerByte * static_cast<double>(size - 1))
                            : scores_[id];
    return static_cast<double>(score);
  }

  Trie trie_;
  std::vector<float> scores_;
  std::vector<bool> is_user_defined_;
  float unk_score_ = 0;
};

/// BPE: neighbours merge when together they are a piece, that with the highest score first.
class BpeEncoder final : public Encoder {
 public:
  explicit BpeEncoder(const SentencePieceModel& model)
      : Encoder(model),
        user_defined_(
            trie_of(model, [](PieceType type) { return type == PieceType::UserDefined; })) {
    number_symbols(model);
    add_merges(model);
    const auto space = symbols_.find(std::string(kMetaspaceUtf8));
    cuts_anywhere_ = space != symbols_.end() && space->second < num_pieces_;
  }

  void encode(std::string_view text, std::vector<TokenId>& ids) const override {
    thread_local std::vector<TokenId> run;
    Writer out(*this, ids);
    std::size_t begin = 0;
    run.clear();
    for (std::size_t at = 0; at < text.size();) {
      const Trie::Match whole = user_defined_.longest_prefix(Trie::kRoot, text.substr(at));
      if (whole.length > 0) {
        flush(text.substr(begin, at - begin), run, out);
        out.known(whole.value);
        at += whole.length;
        begin = at;
        continue;
      }
      run.push_back(symbol(text, at));
    }
    flush(text.substr(begin), run, out);
  }

  bool may_cut(char32_t left) const override { return cuts_anywhere_ && !uncut_.contains(left); }

 private:
  /// Ids of pieces, then of characters that are none but occur in pieces.
  void number_symbols(const SentencePieceModel& model) {
    num_pieces_ = static_cast<TokenId>(model.pieces.size());
    for (std::size_t id = 0; id < model.pieces.size(); ++id) {
      const SentencePiece& piece = model.pieces[id];
      if (piece.type == PieceType::Unused) {
        throw core::ConfigError("BPE with pieces of type UNUSED is not supported");
      }
      sizes_.push_back(piece.text.size());
      if (is_in_text(piece.type)) symbols_.emplace(piece.text, static_cast<TokenId>(id));
    }
    for (const SentencePiece& piece : model.pieces) {
      if (!is_in_text(piece.type)) continue;
      std::string_view rest = piece.text;
      while (!rest.empty()) {
        const std::size_t size = character_size(rest);
        const auto next = static_cast<TokenId>(sizes_.size());
        if (symbols_.emplace(rest.substr(0, size), next).second) sizes_.push_back(size);
        rest.remove_prefix(size);
      }
    }
    for (const auto& [text, id] : symbols_) {
      std::size_t end = 0;
      const char32_t first = decode_utf8(text, end);
      if (end != text.size()) continue;
      if (first < low_.size()) low_[first] = id;
      characters_.emplace(first, id);
    }
  }

  void add_merges(const SentencePieceModel& model) {
    std::map<float, std::uint32_t, std::greater<>> ranks;  // equal scores have equal ranks
    std::size_t num_splits = 0;
    for (const SentencePiece& piece : model.pieces) {
      if (!is_in_text(piece.type)) continue;
      ranks.emplace(piece.score, 0);
      num_splits += piece.text.size();
    }
    std::uint32_t rank = 0;
    for (auto& [score, value] : ranks) value = rank++;
    merges_.reserve(num_splits);
    for (const SentencePiece& piece : model.pieces) {
      if (is_in_text(piece.type)) add_splits(piece, ranks.at(piece.score));
    }
  }

  void add_splits(const SentencePiece& piece, std::uint32_t rank) {
    const std::string_view text = piece.text;
    const TokenId result = symbols_.at(piece.text);
    char32_t left_end = 0;
    for (std::size_t at = 0; at < text.size();) {
      const std::string_view left = text.substr(0, at);
      const std::string_view right = text.substr(at);
      if (at > 0 && right.starts_with(kMetaspaceUtf8)) uncut_.insert(left_end);
      const auto left_id = symbols_.find(std::string(left));
      const auto right_id = symbols_.find(std::string(right));
      if (left_id != symbols_.end() && right_id != symbols_.end()) {
        merges_.add(left_id->second, right_id->second, {.rank = rank, .result = result});
      }
      left_end = decode_utf8(text, at);
    }
  }

  /// The symbol of the character at `at`, which moves behind it.
  TokenId symbol(std::string_view text, std::size_t& at) const {
    const char32_t c = decode_utf8(text, at);
    if (c < low_.size()) return low_[c];
    const auto found = characters_.find(c);
    return found == characters_.end() ? kUnknownCharacter : found->second;
  }

  void flush(std::string_view text, std::vector<TokenId>& run, Writer& out) const {
    merges_.merge_all(run, 0);
    for (const TokenId id : run) {
      if (id >= 0 && id < num_pieces_) {
        out.known(id);
        text.remove_prefix(sizes_[static_cast<std::size_t>(id)]);
        continue;
      }
      const std::size_t size = character_size(text);
      out.unknown(text.substr(0, size));
      text.remove_prefix(size);
    }
    run.clear();
  }

  static std::array<TokenId, 256> no_characters() {
    std::array<TokenId, 256> none{};
    none.fill(kUnknownCharacter);
    return none;
  }

  Trie user_defined_;
  std::unordered_map<std::string, TokenId> symbols_;
  std::array<TokenId, 256> low_ = no_characters();
  std::unordered_map<char32_t, TokenId> characters_;
  std::vector<std::size_t> sizes_;  ///< of symbols, in bytes
  TokenId num_pieces_ = 0;
  BpeMerges merges_;
  bool cuts_anywhere_ = false;
  std::unordered_set<char32_t> uncut_;
};

}  // namespace

std::unique_ptr<const TokenModel> make_sentencepiece_encoder(const SentencePieceModel& model) {
  if (model.kind == SentencePieceModel::Kind::Bpe) return std::make_unique<BpeEncoder>(model);
  return std::make_unique<UnigramEncoder>(model);
}

}  // namespace drystone::text
