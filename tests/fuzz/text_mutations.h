#pragma once
// Seeded damage to texts with a grammar, in the ways that break parsers.

#include "core/bytes.h"
#include "core/seed.h"

namespace drystone::test {

/// One to four of: a piece cut out, repeated or put elsewhere, or a word with meaning put in.
core::Bytes mutate_text(core::Bytes bytes, core::SplitMix64& random);

}  // namespace drystone::test
