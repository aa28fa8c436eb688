#pragma once
// The parts of a tokenizer that SentencePiece's own library would be (Kudo and Richardson, 2018):
// ids and texts equal that library's.

#include <memory>

#include "text/normalizer.h"
#include "text/sentencepiece_model.h"
#include "text/token_decoder.h"
#include "text/token_model.h"

namespace drystone::text {

/// Replacements by the model's table, spaces as U+2581. User-defined pieces stay as they are.
/// @param prefixes_parts  put the dummy prefix before every part of the text, not only at its start
/// @throws core::ConfigError  a malformed table
std::unique_ptr<const Normalizer> make_sentencepiece_normalizer(const SentencePieceModel& model,
                                                                bool prefixes_parts);

/// BPE or unigram, as the model says.
/// @throws core::ConfigError  BPE with pieces of type UNUSED
std::unique_ptr<const TokenModel> make_sentencepiece_encoder(const SentencePieceModel& model);

/// Control pieces that reach it are spelled out; an unknown one becomes the model's surface for it.
std::unique_ptr<const TokenDecoder> make_sentencepiece_decoder(const SentencePieceModel& model);

}  // namespace drystone::text
