// Fuzz target: the first byte says whether a data frame comes along, the rest is a header frame.

#include <cstdlib>

#include "tests/fuzz/fuzz_target.h"
#include "tests/wire/samples.h"
#include "wire/messages.h"

using namespace drystone;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  wire::Frames frames{.header = core::Bytes(data + 1, data + size), .data = {}};
  if (data[0] % 2 == 1) frames.data.assign(16, data[0]);
  const auto message = wire::decode(std::move(frames));
  if (message && !wire::decode(wire::encode(*message))) std::abort();
  return 0;
}

namespace drystone::test {

std::vector<core::Bytes> seed_inputs(std::uint64_t seed) {
  std::vector<core::Bytes> inputs;
  for (wire::Message& message : sample_messages(seed)) {
    const wire::Frames frames = wire::encode(std::move(message));
    core::Bytes input = {static_cast<std::uint8_t>(frames.data.empty() ? 0 : 1)};
    input.insert(input.end(), frames.header.begin(), frames.header.end());
    inputs.push_back(std::move(input));
  }
  return inputs;
}

}  // namespace drystone::test
