#include "cli/families.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

namespace drystone::cli {
namespace {

constexpr std::array kFamilies = {
    ExportFamily{"bert", "Bert"},
    ExportFamily{"camembert", "Camembert"},
    ExportFamily{"deberta-v2", "DebertaV2"},
    ExportFamily{"roberta", "Roberta"},
    ExportFamily{"xlm-roberta", "XLMRoberta"},
    ExportFamily{"llama", "Llama", "llama", /*gguf_permutes=*/true},
    ExportFamily{"mistral", "Mistral", "llama", /*gguf_permutes=*/true},
    ExportFamily{"qwen2", "Qwen2", "qwen2"},
    ExportFamily{"qwen3", "Qwen3", "qwen3"},
    ExportFamily{"gemma", "Gemma", "gemma"},
    ExportFamily{"gemma2", "Gemma2", "gemma2"},
    ExportFamily{"gemma3_text", "Gemma3Text", "gemma3"},
    ExportFamily{"phi3", "Phi3", "phi3"},
    ExportFamily{"gpt2", "GPT2", "gpt2", /*gguf_permutes=*/false,
                 /*stores_transposed=*/true},
};

using Renaming = std::pair<std::string_view, std::string_view>;

constexpr std::array kBlocks = {std::string_view("model.layers."),
                                std::string_view("transformer.h.")};

constexpr std::array kParts = {
    Renaming{"self_attn.q_proj", "attn_q"},     Renaming{"self_attn.k_proj", "attn_k"},
    Renaming{"self_attn.v_proj", "attn_v"},     Renaming{"self_attn.o_proj", "attn_output"},
    Renaming{"self_attn.qkv_proj", "attn_qkv"}, Renaming{"mlp.gate_proj", "ffn_gate"},
    Renaming{"mlp.up_proj", "ffn_up"},          Renaming{"mlp.down_proj", "ffn_down"},
    Renaming{"mlp.gate_up_proj", "ffn_up"},     Renaming{"attn.c_attn", "attn_qkv"},
    Renaming{"attn.c_proj", "attn_output"},     Renaming{"mlp.c_fc", "ffn_up"},
    Renaming{"mlp.c_proj", "ffn_down"},
};

}  // namespace

const ExportFamily* find_family(std::string_view model_type) {
  const auto* const found =
      std::find_if(kFamilies.begin(), kFamilies.end(),
                   [&](const ExportFamily& f) { return f.model_type == model_type; });
  return found == kFamilies.end() ? nullptr : found;
}

std::string gguf_name(std::string_view module) {
  if (module == "lm_head") return "output";
  if (module == "model.embed_tokens" || module == "transformer.wte") return "token_embd";
  for (const std::string_view block : kBlocks) {
    if (!module.starts_with(block)) continue;
    const std::string_view rest = module.substr(block.size());
    const std::size_t dot = rest.find('.');
    if (dot == 0 || dot == std::string_view::npos) return {};
    const std::string_view number = rest.substr(0, dot);
    const bool is_number =
        std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
    const auto* const part = std::find_if(kParts.begin(), kParts.end(), [&](const Renaming& r) {
      return r.first == rest.substr(dot + 1);
    });
    if (!is_number || part == kParts.end()) return {};
    return "blk." + std::string(number) + "." + std::string(part->second);
  }
  return {};
}

}  // namespace drystone::cli
