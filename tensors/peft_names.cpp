#include "tensors/peft_names.h"

#include <algorithm>
#include <array>
#include <utility>

namespace drystone::tensors {
namespace {

constexpr std::string_view kPrefix = "base_model.model.";

struct Ending {
  std::string_view text;
  PeftName::Part part;
  bool is_embedding;
};

constexpr std::array kEndings = {
    Ending{".lora_A.weight", PeftName::Part::A, false},
    Ending{".lora_B.weight", PeftName::Part::B, false},
    Ending{".lora_embedding_A", PeftName::Part::A, true},
    Ending{".lora_embedding_B", PeftName::Part::B, true},
};

/// What wraps a module that is saved whole; the longest first.
constexpr std::array<std::string_view, 3> kWrappers = {".modules_to_save.default",
                                                       ".modules_to_save", ".base_layer"};

std::string unwrapped(std::string name) {
  for (const std::string_view wrapper : kWrappers) {
    const std::size_t at = name.find(std::string(wrapper) + ".");
    if (at == std::string::npos) continue;
    name.erase(at, wrapper.size());
    break;
  }
  return name;
}

}  // namespace

std::optional<PeftName> parse_peft_name(std::string_view key, std::string& why_not) {
  if (!key.starts_with(kPrefix)) {
    why_not =
        "it does not begin with base_model.model.; save the adapter by PEFT's "
        "save_pretrained";
    return std::nullopt;
  }
  const std::string_view name = key.substr(kPrefix.size());
  for (const Ending& ending : kEndings) {
    if (!name.ends_with(ending.text)) continue;
    return PeftName{.part = ending.part,
                    .name = std::string(name.substr(0, name.size() - ending.text.size())),
                    .is_embedding = ending.is_embedding};
  }
  if (const std::size_t at = name.find(".lora_"); at != std::string_view::npos) {
    const bool is_state = name.substr(at).find(".default") != std::string_view::npos;
    why_not = is_state ? "it has the adapter's name in it, as state_dict() gives it; save the "
                         "adapter by PEFT's save_pretrained"
                       : "only lora_A and lora_B of linear layers and embeddings are supported";
    return std::nullopt;
  }
  if (name.find(".original_module.") != std::string_view::npos) {
    return PeftName{.part = PeftName::Part::Copy, .name = std::string(name)};
  }
  return PeftName{.part = PeftName::Part::Whole, .name = unwrapped(std::string(name))};
}

std::string peft_key(std::string_view module, PeftName::Part part) {
  const bool embeds = is_embedding(module);
  const auto* const ending = std::find_if(kEndings.begin(), kEndings.end(), [&](const Ending& e) {
    return e.part == part && e.is_embedding == embeds;
  });
  return std::string(kPrefix) + std::string(module) + std::string(ending->text);
}

std::string peft_key(std::string_view tensor) { return std::string(kPrefix) + std::string(tensor); }

bool is_embedding(std::string_view module) {
  static constexpr std::array<std::string_view, 6> kTables = {
      "embed_tokens",         "wte", "wpe", "word_embeddings", "position_embeddings",
      "token_type_embeddings"};
  const std::string_view last = module.substr(module.rfind('.') + 1);
  return std::find(kTables.begin(), kTables.end(), last) != kTables.end();
}

}  // namespace drystone::tensors
