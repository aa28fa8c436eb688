#pragma once
// How PEFT names an adapter's tensors.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace drystone::tensors {

struct PeftName {
  enum class Part : std::uint8_t { A, B, Whole, Copy };
  Part part = Part::Whole;
  std::string name;           ///< A and B: the module's; else the tensor's ("score.weight")
  bool is_embedding = false;  ///< A and B of an embedding's table
};

/// A key of adapter_model.safetensors. What is saved beside factors is Whole: modules_to_save, in
/// the spelling of every PEFT release, and the base layers of embeddings (save_embedding_layers). A
/// Copy is the base's own of a saved module, which PEFT does not use.
/// @return  absent: not a tensor of an adapter that is B·A; `why_not` says what it is
std::optional<PeftName> parse_peft_name(std::string_view key, std::string& why_not);

/// The key of a module's A or B.
std::string peft_key(std::string_view module, PeftName::Part part);
/// The key of a tensor that is saved whole.
std::string peft_key(std::string_view tensor);

/// Whether the module is a table that rows are looked up in: its weight is [rows, width], ΔW that
/// of the factors transposed.
bool is_embedding(std::string_view module);

}  // namespace drystone::tensors
