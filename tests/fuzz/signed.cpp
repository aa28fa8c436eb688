// Fuzz target: one kind of signed bytes, chosen by DRYSTONE_FUZZ_DECODER. What decodes must be the
// canonical encoding of what it says.

#include <algorithm>
#include <cstdlib>

#include "tests/fuzz/fuzz_target.h"
#include "tests/wire/samples.h"
#include "wire/messages.h"
#include "wire/roster_change.h"

using namespace drystone;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const core::ByteView bytes(data, size);
  const auto value = wire::DRYSTONE_FUZZ_DECODER(bytes);
  if (value && !std::ranges::equal(wire::encode(*value), bytes)) std::abort();
  return 0;
}

namespace drystone::test {

std::vector<core::Bytes> seed_inputs(std::uint64_t seed) { return sample_encodings(seed); }

}  // namespace drystone::test
