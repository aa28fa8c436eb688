#pragma once
// Adapters in other programs' formats: PEFT's folder, llama.cpp's GGUF.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/cut_adapter.h"

namespace drystone::cli {

struct ExportOptions {
  std::filesystem::path adapter;  ///< PEFT folder
  std::filesystem::path model;    ///< Hugging Face folder; empty: where the adapter says
  std::filesystem::path out;      ///< must not exist; an empty folder will do for PEFT
  std::string format;             ///< peft | gguf
  AdapterCut cut;
};

struct ExportReport {
  std::size_t modules = 0;
  std::vector<std::string> notes;  ///< what a cut has done
};

/// PEFT: the same adapter with scale 1, whatever scale, patterns or rsLoRA it came with; the head
/// and labels.json with it.
///
/// GGUF: a LoRA adapter for llama.cpp's --lora, laid out as its convert_lora_to_gguf.py does: of
/// each module NAME.weight.lora_a [rank, in] and NAME.weight.lora_b [out, rank], the rows of
/// Llama's and Mistral's query and key in llama.cpp's order. One adapter.lora.alpha serves all
/// modules, so it is the commonest rank, and B of another rank r is scaled by r / alpha: then
/// alpha / rank · B·A, which llama.cpp adds, is the adapter's ΔW.
///
/// @throws core::ConfigError  OUT exists; GGUF: the family has no adapters in llama.cpp, a module
///                            no name there, or the adapter a trained head   @throws core::IoError
ExportReport export_adapter(const ExportOptions& options);

}  // namespace drystone::cli
