// Fuzz target: federation.toml. What loads can be written, and what was written loads.

#include <array>
#include <cstdlib>

#include "core/config.h"
#include "core/error.h"
#include "core/files.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/temporary_folder.h"

using namespace drystone;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const test::TemporaryFolder folder;
  const std::string text(core::as_text({data, size}));
  std::string written;
  try {
    written = core::to_toml(core::load_config(folder.write("federation.toml", text)));
  } catch (const core::ConfigError& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
    return 0;
  }
  core::load_config(folder.write("again.toml", written));  // throws: a finding
  return 0;
}

namespace drystone::test {

std::vector<core::Bytes> seed_inputs(std::uint64_t seed) {
  static const std::array<core::Bytes, 3> kFiles = {
      core::read_file(DRYSTONE_SOURCE_DIR "/examples/news/federation.toml", 1 << 20),
      core::read_file(DRYSTONE_SOURCE_DIR "/examples/shakespeare/federation.toml", 1 << 20),
      core::read_file(DRYSTONE_SOURCE_DIR "/examples/dolly/federation.toml", 1 << 20)};
  return {kFiles.at(seed % kFiles.size())};
}

}  // namespace drystone::test
