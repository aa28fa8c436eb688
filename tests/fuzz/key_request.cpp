// Fuzz target: NAME.request. Only what was signed is read.

#include "crypto/key_request.h"

#include <cstdlib>

#include "core/error.h"
#include "core/files.h"
#include "core/seed.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/temporary_folder.h"

using namespace drystone;

namespace {

const test::TemporaryFolder& folder() {
  static const test::TemporaryFolder instance;
  return instance;
}

crypto::Identity identity(std::uint64_t seed) {
  return crypto::derive_identity("client-1", core::as_bytes(std::to_string(seed)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = folder().write("a.request", std::string(core::as_text({data, size})));
  try {
    if (crypto::load_request(file).identity.name != "client-1") std::abort();
  } catch (const core::Error&) {
    return 0;
  }
  return 0;
}

namespace drystone::test {

std::vector<core::Bytes> seed_inputs(std::uint64_t seed) {
  const crypto::Identity own = identity(seed);
  const crypto::Identity replaced = identity(seed + 1);
  crypto::save_request(own, seed % 2 == 0 ? &replaced : nullptr, folder() / "seed.request");
  return {core::read_file(folder() / "seed.request", 1 << 20)};
}

}  // namespace drystone::test
