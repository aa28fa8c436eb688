// Fuzz target: config.json, beside the weights of a tiny model of the family that the first byte
// names. What builds also computes.

#include <array>
#include <map>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "models/load.h"
#include "tests/fuzz/fuzz_target.h"

using namespace drystone;

namespace {

constexpr std::array<const char*, 12> kFolders = {
    "bert_tiny",      "deberta_own",   "deberta_v3",      "roberta",
    "decoders/gemma", "decoders/gpt2", "decoders/gemma2", "decoders/gemma3_text",
    "decoders/llama", "decoders/phi3", "decoders/qwen3",  "decoders/mistral"};

std::filesystem::path folder_of(std::size_t choice) {
  return std::filesystem::path(DRYSTONE_SOURCE_DIR "/tests/models/fixtures") /
         kFolders.at(choice % kFolders.size());
}

models::ModelSpec spec_of(std::size_t choice) {
  return {.folder = folder_of(choice),
          .task = choice % kFolders.size() < 4 || choice >= 128 ? models::Task::Classification
                                                                : models::Task::CausalLm,
          .num_labels = 3};
}

const models::Base& base_of(std::size_t choice) {
  static std::map<std::size_t, models::Base> loaded;
  const auto [place, is_new] =
      loaded.try_emplace(choice % kFolders.size(),
                         models::Base{.config = models::HfConfig::parse("{}", "config.json")});
  if (is_new) place->second = models::load_base(spec_of(choice));
  return place->second;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static const bool is_quiet = (core::init_log(core::LogLevel::Off), true);
  static_cast<void>(is_quiet);
  const at::NoGradGuard no_grad;
  models::Base base = base_of(data[0]);
  try {
    base.config = models::HfConfig::parse(core::as_text({data + 1, size - 1}), "m/config.json");
    base.config.label_names();
    base.config.ids("eos_token_id");
    const auto model = models::build(spec_of(data[0]), base);
    model->logits({.input_ids = at::arange(1, 7).view({2, 3}), .pad_mask = {}, .labels = {}});
  } catch (const core::ConfigError&) {
  }
  return 0;
}

namespace drystone::test {

std::vector<core::Bytes> seed_inputs(std::uint64_t seed) {
  core::Bytes input = core::read_file(folder_of(seed) / "config.json", 1 << 20);
  input.insert(input.begin(), static_cast<std::uint8_t>(seed));
  return {input};
}

}  // namespace drystone::test
