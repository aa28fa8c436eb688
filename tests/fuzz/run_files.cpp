// Fuzz target: the JSON files of runs and checkpoints. The first byte chooses which.

#include <array>

#include <ATen/ops/zeros.h>

#include "aggregation/layout.h"
#include "coordinator/version_record.h"
#include "core/error.h"
#include "core/files.h"
#include "tensors/adapter_labels.h"
#include "tensors/checkpoint.h"
#include "tensors/pruning.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/temporary_folder.h"
#include "tests/wire/samples.h"

using namespace drystone;

namespace {

const test::TemporaryFolder& folder() {
  static const test::TemporaryFolder instance;
  return instance;
}

void read_index(const std::string& text) {
  folder().write("model.safetensors.index.json", text);
  tensors::open_checkpoint(folder().path());
}

constexpr std::array<void (*)(const std::string&), 5> kReaders = {
    [](const std::string& text) { aggregation::read_layout(folder().write("layout.json", text)); },
    [](const std::string& text) { coordinator::record_from_json(text); },
    [](const std::string& text) { tensors::read_mask(folder().write("mask.json", text)); },
    [](const std::string& text) {
      folder().write(tensors::kLabelsFile, text);
      tensors::read_labels(folder().path());
    },
    &read_index};

std::string sample(std::uint64_t seed) {
  core::SplitMix64 random(seed);
  switch (seed % kReaders.size()) {
    case 0:
      return aggregation::to_json(aggregation::AdapterLayout{
          .modules = {{"m", {.out = 3, .in = 2}}}, .dense = {{"h", {2, 2}}}});
    case 1: {
      const wire::Signed version = {wire::encode(test::sample_version(random)), {}};
      const wire::Signed update = {wire::encode(test::sample_update(random)), {}};
      return coordinator::to_json(
          {.manifest = version, .updates = {{.client = "c", .manifest = update}}});
    }
    case 2:
      tensors::write_mask(folder() / "mask.json", {{"b", at::zeros({3}, at::kBool)}});
      return folder().read("mask.json");
    case 3: return R"(["a", "b"])";
    default: return R"({"metadata": {"total_size": 4}, "weight_map": {"a": "s.safetensors"}})";
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  try {
    kReaders.at(data[0] % kReaders.size())(std::string(core::as_text({data + 1, size - 1})));
  } catch (const core::ConfigError&) {
  } catch (const core::IoError&) {
  }
  return 0;
}

namespace drystone::test {

std::vector<core::Bytes> seed_inputs(std::uint64_t seed) {
  const std::string text = sample(seed);
  core::Bytes input(text.begin(), text.end());
  input.insert(input.begin(), static_cast<std::uint8_t>(seed % kReaders.size()));
  return {input};
}

}  // namespace drystone::test
