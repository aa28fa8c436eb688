// Beside libFuzzer: with DRYSTONE_FUZZ_SEEDS=FOLDER the target writes its own inputs there and
// ends.

#include <cstdlib>
#include <string>

#include "core/files.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv);

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* const folder = std::getenv("DRYSTONE_FUZZ_SEEDS");
  if (folder == nullptr) return 0;
  constexpr std::uint64_t kSeeds = 60;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    std::size_t number = 0;
    for (const auto& input : drystone::test::seed_inputs(seed)) {
      const std::string name = std::to_string(seed) + "-" + std::to_string(number++);
      drystone::core::write_file_atomic(std::string(folder) + "/" + name, input);
    }
  }
  std::exit(0);
}
