// Fuzz target: a file of encoded examples. What opens can be read to its end.

#include "data/sequence_file.h"

#include <cstdlib>

#include "core/bytes.h"
#include "core/error.h"
#include "core/files.h"
#include "core/seed.h"
#include "data/dataset.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/temporary_folder.h"

using namespace drystone;

namespace {

constexpr data::Fingerprint kMade{{1, 2}};
constexpr std::int64_t kVocabulary = 100;

const test::TemporaryFolder& folder() {
  static const test::TemporaryFolder instance;
  return instance;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto path = folder().write("input", std::string(core::as_text({bytes, size})));
  try {
    const data::SequenceFile file(path, kMade, kVocabulary);
    std::size_t tokens = 0;
    for (std::size_t i = 0; i < file.size(); ++i) {
      for (const text::TokenId id : file.ids(i)) {
        if (id < 0 || id >= kVocabulary) std::abort();
      }
      tokens += file.labels(i).size();
    }
    if (tokens != file.num_tokens()) std::abort();
    file.keys();
  } catch (const core::IoError&) {
  }
  return 0;
}

namespace drystone::test {

std::vector<core::Bytes> seed_inputs(std::uint64_t seed) {
  core::SplitMix64 random(seed);
  const auto path = folder() / "seed";
  data::SequenceFileWriter writer(path, kMade);
  for (std::uint64_t i = 0; i <= random.below(5); ++i) {
    std::vector<text::TokenId> ids(1 + random.below(4));
    for (text::TokenId& id : ids) id = static_cast<text::TokenId>(random.below(kVocabulary));
    std::vector<text::TokenId> labels = ids;
    labels.front() = data::kNoLabel;
    writer.add(ids, labels);
    if (seed % 2 == 0) writer.add_key(std::to_string(i));
  }
  writer.finish();
  return {core::read_file(path, 1 << 20)};
}

}  // namespace drystone::test
