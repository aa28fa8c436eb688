// Fuzz target: adapter_config.json beside good weights, and the weights beside a good one.

#include <ATen/ops/ones.h>

#include "core/error.h"
#include "core/files.h"
#include "tensors/peft_io.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/temporary_folder.h"

using namespace drystone;

namespace {

constexpr const char* kConfig = "adapter_config.json";
constexpr const char* kWeights = "adapter_model.safetensors";

/// A folder that write_peft made.
const test::TemporaryFolder& folder() {
  static const test::TemporaryFolder made;
  static const bool is_written = [] {
    tensors::FactorSet set;
    set.modules["model.layers.0.q_proj"] = {.b = at::ones({3, 2}), .a = at::ones({2, 4})};
    set.modules["model.layers.1.q_proj"] = {.b = at::ones({3, 1}), .a = at::ones({1, 4})};
    set.modules["model.layers.1.k_proj"] = {.b = at::ones({3, 2}), .a = at::ones({2, 4})};
    set.dense["score.weight"] = at::ones({2, 4});
    tensors::write_peft(made.path(), set, {.base_model = "m"});
    return true;
  }();
  static_cast<void>(is_written);
  return made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const char* const name = data[0] % 2 == 0 ? kConfig : kWeights;
  static const std::string config = folder().read(kConfig);
  static const std::string weights = folder().read(kWeights);
  folder().write(kConfig, config);
  folder().write(kWeights, weights);
  folder().write(name, std::string(core::as_text({data + 1, size - 1})));
  try {
    tensors::read_peft(folder().path());
  } catch (const core::ConfigError&) {
  } catch (const core::IoError&) {
  }
  return 0;
}

namespace drystone::test {

std::vector<core::Bytes> seed_inputs(std::uint64_t seed) {
  static const core::Bytes kFiles[] = {core::read_file(folder() / kConfig, 1 << 20),
                                       core::read_file(folder() / kWeights, 1 << 20)};
  const std::uint8_t choice = seed % 4 == 3 ? 1 : 0;
  core::Bytes input = kFiles[choice];
  input.insert(input.begin(), choice);
  return {input};
}

}  // namespace drystone::test
