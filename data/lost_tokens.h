#pragma once
// How much of a record max_length took.

#include <cstddef>
#include <cstdint>

#include "data/record.h"
#include "data/sequence_encoder.h"
#include "data/text_encoder.h"

namespace drystone::data {

/// How many tokens of a record max_length cut, which left `length`. Encodes it again, without a
/// bound, where nothing else tells.
std::size_t num_lost(const TextEncoder& encoder, const Record& record, std::size_t length,
                     std::int64_t max_length);
/// @param unbound  encodes like the one that cut, to any length
std::size_t num_lost(const SequenceEncoder& unbound, const Record& record, std::size_t length,
                     std::int64_t max_length);

/// The options without their bounds.
SequenceOptions unbound(SequenceOptions options);

}  // namespace drystone::data
