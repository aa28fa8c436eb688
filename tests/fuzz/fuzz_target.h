#pragma once
// What every fuzz target offers: libFuzzer's entry point, and inputs to start from.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace drystone::test {

/// Well-formed inputs; the replay in replay.cpp mutates them.
std::vector<core::Bytes> seed_inputs(std::uint64_t seed);

}  // namespace drystone::test
