#pragma once
// What is to be loaded of a Hugging Face folder, and what was read of it.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include "models/hf_config.h"
#include "models/model.h"
#include "models/quantized/quantized_weight.h"

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

}  // namespace drystone::models
