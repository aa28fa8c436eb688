#pragma once
// From a Hugging Face folder to a model. Every family is a file of its own and a row in load.cpp.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include "models/hf_config.h"
#include "models/model.h"

namespace drystone::models {

enum class Quantization { None, Nf4, Int8 };

struct ModelSpec {
  std::filesystem::path folder;  ///< Hugging Face folder: config.json and safetensors
  Task task = Task::Classification;
  std::int64_t num_labels = 2;  ///< classes; 1 for regression; unused by causal LM
  std::uint64_t seed = 0;       ///< of what the checkpoint lacks, e.g. a new head
  at::ScalarType dtype = at::kFloat;
  Quantization quantization = Quantization::None;  ///< of the linear layers that may be adapted
  at::Device device = at::kCPU;
};

/// A folder, read once. Any number of models may be built from it, in any number of threads.
struct Base {
  HfConfig config;
  /// Of the spec's dtype, on its device; those that were quantised as the files hold them, unread.
  Weights weights;
  std::map<std::string, QuantizedPtr> quantized;  ///< by linear layer; empty without quantisation
  std::vector<std::filesystem::path> files;       ///< that hold the weights: what a hash covers
};

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
