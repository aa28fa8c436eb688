#pragma once
// PEFT's folder form of a LoRA adapter: adapter_config.json and adapter_model.safetensors.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tensors/factors.h"

namespace drystone::tensors {

struct PeftFolder {
  std::string base_model;  ///< written as base_model_name_or_path; may be empty
  std::string task_type = "SEQ_CLS";
};

/// Writes what PEFT's PeftModel.from_pretrained loads onto the base model: B and A as they are with
/// scale 1 (lora_alpha = r; modules of another rank by rank_pattern and alpha_pattern, anchored to
/// their full names), dense parts as modules_to_save; and head.safetensors with the dense parts
/// alone, when there are any.
/// @param adapter  factors relative to the base, at least one module; dense parts as absolute
///                 values
/// @throws core::InvalidArgument  no module   @throws core::IoError
void write_peft(const std::filesystem::path& folder, const FactorSet& adapter,
                const PeftFolder& about = {});

/// An adapter whose parts are made when they are written, one at a time.
struct PeftParts {
  std::map<std::string, std::int64_t> ranks;  ///< of every module
  std::set<std::string> dense;
  std::function<Factors(const std::string&)> module;
  std::function<at::Tensor(const std::string&)> dense_part;
};

/// The same bytes, with memory for one module.
void write_peft(const std::filesystem::path& folder, const PeftParts& adapter,
                const PeftFolder& about = {});

/// Reads a PEFT adapter of type LoRA (also rsLoRA and patterns) with the scale folded into B, in
/// fp32. Saved modules become dense parts with absolute values. Of an embedding (is_embedding) the
/// factors are those of the table transposed: ΔW = (B·A)ᵀ.
/// @throws core::IoError      unreadable
/// @throws core::ConfigError  another peft_type, a pickle, tensors that do not fit each other, or a
///                            feature that ΔW = B·A does not cover (DoRA, biases, base weights
///                            changed at the start, …); names it
FactorSet read_peft(const std::filesystem::path& folder);

/// The shape of a tensor that the adapter saves whole ("score.weight"); empty: it does not. Reads
/// headers. @throws as read_peft
std::vector<std::int64_t> saved_shape(const std::filesystem::path& folder,
                                      const std::string& tensor);

/// What adapter_config.json says beside the adapter. @throws as read_peft
PeftFolder read_peft_about(const std::filesystem::path& folder);

}  // namespace drystone::tensors
