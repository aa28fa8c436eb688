#pragma once
// The file of a SentencePiece model (a protobuf message ModelProto), as far as encoding and
// decoding need it. Read without the protobuf library: lengths are checked against what is there.

#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace drystone::text {

enum class PieceType : unsigned char {
  Normal = 1,
  Unknown = 2,
  Control = 3,
  UserDefined = 4,
  Unused = 5,
  Byte = 6,
};

struct SentencePiece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::Normal;
};

struct SentencePieceModel {
  enum class Kind : unsigned char { Unigram = 1, Bpe = 2 };

  std::vector<SentencePiece> pieces;  ///< by id
  Kind kind = Kind::Unigram;
  bool byte_fallback = false;
  bool whitespace_is_suffix = false;
  std::string unk_surface = " \xE2\x81\x87 ";  ///< what an unknown token is decoded to
  std::string charsmap;                        ///< "precompiled_charsmap"; may be empty
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  std::string decoding_charsmap;  ///< applied to decoded text; mostly empty
};

/// @throws core::ConfigError  truncated or malformed bytes, a model type other than BPE and
///                            unigram, no pieces, an empty one or two alike, a score that is
///                            not finite, not exactly one unknown
SentencePieceModel parse_sentencepiece(std::string_view bytes);

}  // namespace drystone::text
