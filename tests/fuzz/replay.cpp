// Stands in for libFuzzer where the compiler has none: seeded mutations of the target's own inputs,
// or the files that are named (to replay what libFuzzer found).

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "core/files.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/text_mutations.h"
#include "tests/wire/mutations.h"

using namespace drystone;

namespace {

void run(const core::Bytes& input) { LLVMFuzzerTestOneInput(input.data(), input.size()); }

int replay_files(int count, char** files) {
  constexpr std::uint64_t kMaxBytes = 16 << 20;
  for (int i = 0; i < count; ++i) run(core::read_file(files[i], kMaxBytes));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) return replay_files(argc - 1, argv + 1);
  const char* const given = std::getenv("DRYSTONE_FUZZ_NUM_SEEDS");
  const std::uint64_t num_seeds = given == nullptr ? 300 : std::strtoull(given, nullptr, 10);
  constexpr int kMutations = 10;
  core::SplitMix64 random(1);
  std::uint64_t num_runs = 0;
  for (std::uint64_t seed = 0; seed < num_seeds; ++seed) {
    for (const core::Bytes& input : test::seed_inputs(seed)) {
      run(input);
      for (int i = 0; i < kMutations; ++i, ++num_runs) {
        run(i % 2 == 0 ? test::mutate(input, random) : test::mutate_text(input, random));
      }
    }
  }
  std::printf("%llu mutated inputs\n", static_cast<unsigned long long>(num_runs));
  return 0;
}
