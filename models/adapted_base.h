#pragma once
// A base with what an adapter holds beside linear layers: modules saved whole, embeddings, heads.

#include <cstdint>
#include <filesystem>

#include <ATen/core/Tensor.h>

#include "models/model_spec.h"
#include "tensors/factors.h"

namespace drystone::models {

/// W + B·A in float32 for a weight that is stored [out, in], or [in, out] (`is_transposed`:
/// embeddings, GPT-2's Conv1D).
at::Tensor with_factors(const at::Tensor& weight, const tensors::Factors& factors,
                        bool is_transposed);

/// Puts into the base, as PEFT computes it, the modules that the adapter saves whole
/// (modules_to_save) and what it adds to embeddings and heads. Tied embeddings and language-model
/// heads come apart where one of them changes alone; more rows of both become vocab_size. Removes
/// all this from the adapter: what stays are factors of linear layers.
/// @param base    not quantised
/// @param task    causal LM: there is a language-model head
/// @param origin  names the adapter in messages
/// @throws core::ConfigError  a module that the model does not have, or a shape that does not fit
void install_saved(Base& base, Task task, tensors::FactorSet& adapter,
                   const std::filesystem::path& origin);

}  // namespace drystone::models
