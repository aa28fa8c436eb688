// SentencePiece's decoder.

#include <unordered_map>

#include "text/metaspace.h"
#include "text/normalizer_charsmap.h"
#include "text/sentencepiece.h"
#include "text/utf8.h"

namespace drystone::text {

namespace {

class SentencePieceDecoder final : public TokenDecoder {
 public:
  explicit SentencePieceDecoder(const SentencePieceModel& model)
      : unk_surface_(model.unk_surface),
        strips_first_(model.add_dummy_prefix || model.remove_extra_whitespaces),
        strips_all_leading_(model.remove_extra_whitespaces),
        charsmap_(model.decoding_charsmap.empty() ? Charsmap()
                                                  : Charsmap(model.decoding_charsmap)) {
    for (const SentencePiece& piece : model.pieces) {
      if (piece.type != PieceType::Normal) types_.emplace(piece.text, piece.type);
    }
  }

  void apply(std::vector<std::string>& tokens) const override {
    std::string text;
    std::string bytes;
    bool expects_space = true;
    bool saw_space = false;
    for (const std::string& token : tokens) {
      const PieceType type = type_of(token);
      if (type == PieceType::Byte) {
        bytes.push_back(static_cast<char>(byte_of_token(token)));
        continue;
      }
      flush(bytes, text);
      if (saw_space || !text.empty()) expects_space = false;
      saw_space = append(token, type, expects_space, text);
    }
    flush(bytes, text);
    tokens.assign(1, charsmap_.empty() ? text : replaced(text));
  }

 private:
  PieceType type_of(const std::string& token) const {
    const auto found = types_.find(token);
    return found == types_.end() ? PieceType::Normal : found->second;
  }

  /// @return whether the space that stands for the dummy prefix was found
  bool append(std::string_view token, PieceType type, bool expects_space, std::string& text) const {
    if (type == PieceType::Control) {
      text += token;
      return false;
    }
    if (type == PieceType::Unknown) {
      text += unk_surface_;
      return false;
    }
    bool has_space = false;
    if (expects_space && strips_first_ && token.starts_with(kMetaspaceUtf8)) {
      token.remove_prefix(kMetaspaceUtf8.size());
      has_space = !strips_all_leading_;
    }
    std::size_t done = 0;
    for (std::size_t at = token.find(kMetaspaceUtf8); at != std::string_view::npos;
         at = token.find(kMetaspaceUtf8, done)) {
      text.append(token, done, at - done);
      text += ' ';
      done = at + kMetaspaceUtf8.size();
    }
    text.append(token, done);
    return has_space;
  }

  /// Every byte that is not of a well-formed character becomes U+FFFD.
  static void flush(std::string& bytes, std::string& text) {
    for (std::size_t i = 0; i < bytes.size();) {
      std::size_t end = i;
      const char32_t c = decode_utf8(bytes, end);
      const bool is_valid = !find_invalid_utf8(std::string_view(bytes).substr(i, end - i));
      append_utf8(is_valid ? c : kReplacement, text);
      i = is_valid ? end : i + 1;
    }
    bytes.clear();
  }

  std::string replaced(std::string_view text) const {
    std::string out;
    while (!text.empty()) {
      std::size_t length = 0;
      decode_utf8(text, length);
      if (const auto match = charsmap_.longest(text)) {
        out += match->value;
        length = match->length;
      } else {
        out += text.substr(0, length);
      }
      text.remove_prefix(length);
    }
    return out;
  }

  std::string unk_surface_;
  bool strips_first_;
  bool strips_all_leading_;
  Charsmap charsmap_;
  std::unordered_map<std::string, PieceType> types_;
};

}  // namespace

std::unique_ptr<const TokenDecoder> make_sentencepiece_decoder(const SentencePieceModel& model) {
  return std::make_unique<SentencePieceDecoder>(model);
}

}  // namespace drystone::text
