#include "text/sentencepiece_model.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <unordered_set>

#include "core/error.h"
#include "text/utf8.h"

namespace drystone::text {

namespace {

constexpr std::size_t kLongestPiece = 1 << 12;  // bytes

[[noreturn]] void refuse(const std::string& problem) {
  throw core::ConfigError("not a SentencePiece model: " + problem);
}

/// The fields of one protobuf message.
class Message {
 public:
  explicit Message(std::string_view bytes) : rest_(bytes) {}

  /// Goes to the next field. @return false at the end
  bool next() {
    if (rest_.empty()) return false;
    const std::uint64_t tag = varint();
    field_ = tag >> 3;
    switch (tag & 7) {
      case 0: value_ = varint(); break;
      case 1: bytes_ = take(8); break;
      case 2: bytes_ = take(varint()); break;
      case 5: bytes_ = take(4); break;
      default: refuse("unknown wire type");
    }
    is_varint_ = (tag & 7) == 0;
    return true;
  }

  std::uint64_t field() const { return field_; }

  std::uint64_t number() const {
    if (!is_varint_) refuse("a number is expected");
    return value_;
  }
  bool flag() const { return number() != 0; }
  std::string_view bytes() const {
    if (is_varint_) refuse("bytes are expected");
    return bytes_;
  }
  std::string text() const {
    if (find_invalid_utf8(bytes())) refuse("a text is not UTF-8");
    return std::string(bytes());
  }
  float real() const {
    if (bytes().size() != sizeof(float)) refuse("a float is expected");
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < sizeof bits; ++i) {
      bits |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes_[i])) << (8 * i);
    }
    return std::bit_cast<float>(bits);
  }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) refuse("truncated");
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    refuse("a number is too long");
  }

  std::string_view take(std::uint64_t size) {
    if (size > rest_.size()) refuse("truncated");
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  std::string_view rest_;
  std::uint64_t field_ = 0;
  std::uint64_t value_ = 0;
  std::string_view bytes_;
  bool is_varint_ = false;
};

SentencePiece parse_piece(std::string_view bytes) {
  SentencePiece piece;
  for (Message message(bytes); message.next();) {
    switch (message.field()) {
      case 1: piece.text = message.text(); break;
      case 2: piece.score = message.real(); break;
      case 3:
        if (message.number() < 1 || message.number() > 6) refuse("a piece of an unknown type");
        piece.type = static_cast<PieceType>(message.number());
        break;
      default: break;
    }
  }
  return piece;
}

void parse_trainer(std::string_view bytes, SentencePieceModel& model) {
  for (Message message(bytes); message.next();) {
    switch (message.field()) {
      case 3:
        if (message.number() != 1 && message.number() != 2) {
          refuse("its type is neither unigram nor BPE, the ones that work");
        }
        model.kind = static_cast<SentencePieceModel::Kind>(message.number());
        break;
      case 24: model.whitespace_is_suffix = message.flag(); break;
      case 35: model.byte_fallback = message.flag(); break;
      case 44: model.unk_surface = message.text(); break;
      default: break;
    }
  }
}

void parse_normalizer(std::string_view bytes, SentencePieceModel& model) {
  for (Message message(bytes); message.next();) {
    switch (message.field()) {
      case 2: model.charsmap = message.bytes(); break;
      case 3: model.add_dummy_prefix = message.flag(); break;
      case 4: model.remove_extra_whitespaces = message.flag(); break;
      case 5: model.escape_whitespaces = message.flag(); break;
      default: break;
    }
  }
}

void parse_denormalizer(std::string_view bytes, SentencePieceModel& model) {
  for (Message message(bytes); message.next();) {
    if (message.field() == 2) model.decoding_charsmap = message.bytes();
  }
}

void check(const SentencePieceModel& model) {
  if (model.pieces.empty()) refuse("it has no pieces");
  std::unordered_set<std::string_view> texts;
  for (const SentencePiece& piece : model.pieces) {
    if (piece.text.empty()) refuse("a piece is empty");
    if (piece.text.size() > kLongestPiece) refuse("a piece is too long");
    if (!std::isfinite(piece.score)) refuse("the score of a piece is not finite");
    if (!texts.insert(piece.text).second) refuse("two pieces are " + piece.text);
  }
  const auto num_unknown =
      std::count_if(model.pieces.begin(), model.pieces.end(),
                    [](const SentencePiece& piece) { return piece.type == PieceType::Unknown; });
  if (num_unknown != 1) refuse("it needs exactly one unknown piece");
}

}  // namespace

SentencePieceModel parse_sentencepiece(std::string_view bytes) {
  SentencePieceModel model;
  for (Message message(bytes); message.next();) {
    switch (message.field()) {
      case 1: model.pieces.push_back(parse_piece(message.bytes())); break;
      case 2: parse_trainer(message.bytes(), model); break;
      case 3: parse_normalizer(message.bytes(), model); break;
      case 5: parse_denormalizer(message.bytes(), model); break;
      default: break;
    }
  }
  check(model);
  return model;
}

}  // namespace drystone::text
