#pragma once
// The decoder families: what each makes of config.json, and how load.cpp builds it.

#include <memory>

#include "models/model_spec.h"

namespace drystone::models {

struct DecoderConfig;

/// One for each `model_type`.
/// @throws core::ConfigError  a key that is missing, wrong or unsupported
DecoderConfig llama_config(const HfConfig& config);
DecoderConfig mistral_config(const HfConfig& config);
DecoderConfig qwen2_config(const HfConfig& config);
DecoderConfig qwen3_config(const HfConfig& config);
DecoderConfig gemma_config(const HfConfig& config);
DecoderConfig gemma2_config(const HfConfig& config);
DecoderConfig gemma3_config(const HfConfig& config);
DecoderConfig phi3_config(const HfConfig& config);
DecoderConfig gpt2_config(const HfConfig& config);

/// A Decoder as the family describes it.
std::unique_ptr<Model> build_decoder(const ModelSpec& spec, const Base& base,
                                     DecoderConfig (*describe)(const HfConfig&));

/// A row of the table in load.cpp.
template <DecoderConfig (*kDescribe)(const HfConfig&)>
std::unique_ptr<Model> build_decoder(const ModelSpec& spec, const Base& base) {
  return build_decoder(spec, base, kDescribe);
}

}  // namespace drystone::models
