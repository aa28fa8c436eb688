#pragma once
// From tokens back to text: the components of tokenizer.json's "decoder".

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace drystone::text {

/// Rewrites a list of tokens. Immutable: may be used from several threads at once.
class TokenDecoder {
 public:
  virtual ~TokenDecoder() = default;
  virtual void apply(std::vector<std::string>& tokens) const = 0;
};

using TokenDecoders = std::vector<std::unique_ptr<const TokenDecoder>>;

/// GPT-2's alphabet back to bytes, in one piece; malformed UTF-8 becomes U+FFFD.
std::unique_ptr<const TokenDecoder> make_byte_level_decoder();
std::unique_ptr<const TokenDecoder> make_wordpiece_decoder(std::string prefix, bool cleanup);
/// `mark` becomes ' '; with `strips_first` it vanishes from the first token.
std::unique_ptr<const TokenDecoder> make_metaspace_decoder(std::string mark, bool strips_first);
/// `suffix` becomes ' ', and nothing in the last token.
std::unique_ptr<const TokenDecoder> make_suffix_decoder(std::string suffix);
/// One token.
std::unique_ptr<const TokenDecoder> make_fuse();
/// Runs of <0x00> … <0xFF> become the text that these bytes are, or a U+FFFD each.
std::unique_ptr<const TokenDecoder> make_byte_fallback();
/// Takes up to `left` and `right` times the character `content` (UTF-8) off each token's ends.
std::unique_ptr<const TokenDecoder> make_strip_decoder(std::string content, std::size_t left,
                                                       std::size_t right);
std::unique_ptr<const TokenDecoder> make_replace_decoder(std::string what, std::string with);
std::unique_ptr<const TokenDecoder> make_regex_replace_decoder(std::string_view pattern,
                                                               std::string with);

/// `text` with every malformed sequence replaced by U+FFFD.
std::string valid_utf8(std::string text);

/// The byte of a token "<0x0A>", or −1.
int byte_of_token(std::string_view token);

}  // namespace drystone::text
