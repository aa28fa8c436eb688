#pragma once
// SentencePiece's compiled table of replacements ("precompiled_charsmap"): a double-array trie over
// UTF-8 in the format of darts-clone, and the texts that its values point to.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/normalizer.h"

namespace drystone::text {

/// Immutable. Bad bytes in the table never lead outside of it.
class Charsmap {
 public:
  struct Match {
    std::size_t length;      ///< bytes of the text that are replaced; > 0
    std::string_view value;  ///< by what
  };

  Charsmap() = default;
  /// @param blob  4 bytes: size of the trie, little-endian; the trie; texts that end in '\0'
  /// @throws core::ConfigError  the size is not that of a trie inside the blob
  explicit Charsmap(std::string_view blob);

  bool empty() const { return units_.empty(); }
  std::optional<Match> longest(std::string_view text) const { return match(text, true); }
  std::optional<Match> shortest(std::string_view text) const { return match(text, false); }

 private:
  std::optional<Match> match(std::string_view text, bool is_longest) const;

  std::vector<std::uint32_t> units_;
  std::string texts_;
};

/// As Hugging Face's `Precompiled`, which goes by grapheme clusters and takes the shortest match of
/// one (SentencePiece itself takes the longest match at every place).
std::unique_ptr<const Normalizer> make_precompiled(Charsmap charsmap);

/// The bytes that `text` stands for.
/// @throws core::ConfigError  it is not base64
std::string decode_base64(std::string_view text);

}  // namespace drystone::text
