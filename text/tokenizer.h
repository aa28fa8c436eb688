#pragma once
// Text to token ids and back, whatever the family of the tokenizer.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/token_id.h"

namespace drystone::text {

/// Ids by role; absent where the tokenizer has no token of that role.
struct SpecialIds {
  std::optional<TokenId> pad;
  std::optional<TokenId> unk;
  std::optional<TokenId> cls;
  std::optional<TokenId> sep;
  std::optional<TokenId> mask;
  std::optional<TokenId> bos;
  std::optional<TokenId> eos;
};

/// Immutable after loading: every method may be called from several threads at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Appends the ids of `text` to `ids`; what `ids` held before stays.
  /// @param text         UTF-8; a malformed sequence counts as U+FFFD
  /// @param max_length   bound on the ids appended, special ones included; the text is cut on the
  ///                     right; 0: no bound
  /// @param add_special  surround the text as the model expects it, e.g. [CLS] … [SEP]
  /// @throws core::InvalidArgument  max_length is negative or has no room for the special tokens
  virtual void encode_into(std::string_view text, std::int64_t max_length, bool add_special,
                           std::vector<TokenId>& ids) const = 0;

  /// Text of `ids` as Hugging Face's decoder gives it; ids outside the vocabulary are skipped.
  virtual std::string decode(std::span<const TokenId> ids, bool skip_special = true) const = 0;

  /// One more than the largest id: what an embedding needs as rows.
  virtual std::int64_t vocab_size() const = 0;
  virtual const SpecialIds& special() const = 0;
  /// Id of a token's exact string ("##ing", "[SEP]").
  virtual std::optional<TokenId> id_of(std::string_view token) const = 0;
  /// The token's string; empty for an id outside the vocabulary.
  virtual std::string_view token(TokenId id) const = 0;

  std::vector<TokenId> encode(std::string_view text, std::int64_t max_length = 0,
                              bool add_special = true) const {
    std::vector<TokenId> ids;
    encode_into(text, max_length, add_special, ids);
    return ids;
  }

 protected:
  /// @throws core::InvalidArgument  as encode_into
  static void require_room(std::int64_t max_length, std::size_t num_special);
};

/// Loads the tokenizer of a Hugging Face model folder: the first there is of tokenizer.json (its
/// own truncation and padding are ignored: callers say what they want), a SentencePiece model
/// (tokenizer.model, spiece.model, spm.model), vocab.txt, and vocab.json with merges.txt. Roles are
/// read from tokenizer_config.json and special_tokens_map.json, else taken from usual names.
/// docs/tokenizers.md lists what is supported.
/// @throws core::ConfigError  no tokenizer there, a kind or component that is not supported (the
///                            message says which are), or a malformed file
/// @throws core::IoError      a file that cannot be read
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model_folder);

}  // namespace drystone::text
