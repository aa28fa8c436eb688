#pragma once
// From a Hugging Face folder to a model. Every family is a file of its own and a row in load.cpp.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <c10/core/ScalarType.h>

#include "models/model.h"
#include "models/model_spec.h"

namespace drystone::models {

/// Bytes of what the base holds, mapped or not.
std::int64_t num_bytes(const Base& base);

/// With quantisation the full-precision weights are never held as a whole: each linear layer's is
/// read from the mapped file, quantised, and its pages are given back.
/// @throws core::ConfigError  config.json is missing, wrong or of an unsupported family (the
///                            message lists those that work), or the weights are a pickle
/// @throws core::IoError      the weights are missing or broken
Base load_base(const ModelSpec& spec);

/// An instance of its own that shares the base's tensors: nothing but a new head is allocated.
/// What the checkpoint lacks (a head of this many labels) is drawn from the seed: equal specs give
/// equal models everywhere.
/// @param spec  task, num_labels and seed may differ from the ones that loaded the base
/// @throws core::ConfigError  the weights do not fit config.json; lists the tensors
std::unique_ptr<Model> build(const ModelSpec& spec, const Base& base);

/// load_base and build.
std::unique_ptr<Model> load_model(const ModelSpec& spec);

/// The values of `model_type` that work.
std::vector<std::string> supported_model_types();

/// "none", "nf4" or "int8". @throws core::ConfigError  another word
Quantization parse_quantization(std::string_view text);

/// "float32", "bfloat16" or "float64". @throws core::ConfigError  another word
at::ScalarType parse_dtype(std::string_view text);

/// "classification", "regression" or "causal-lm". @throws core::ConfigError  another word
Task parse_task(std::string_view text);

}  // namespace drystone::models
