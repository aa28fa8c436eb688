#pragma once
// What other programs call the parts of each model family.

#include <string>
#include <string_view>

namespace drystone::cli {

struct ExportFamily {
  std::string_view model_type;  ///< of config.json
  std::string_view
      class_prefix;            ///< of transformers' classes: "Bert" + "ForSequenceClassification"
  std::string_view gguf = {};  ///< llama.cpp's architecture; empty: none for adapters
  bool gguf_permutes = false;  ///< llama.cpp keeps rows of q and k in the interleaved order
  bool stores_transposed = false;  ///< linear weights lie as [in, out] in the checkpoint
};

/// nullptr: not known.
const ExportFamily* find_family(std::string_view model_type);

/// llama.cpp's name of a linear layer, the embeddings or the head:
/// "model.layers.3.self_attn.q_proj" → "blk.3.attn_q"; empty if it has none.
std::string gguf_name(std::string_view module);

}  // namespace drystone::cli
