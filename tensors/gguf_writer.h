#pragma once
// Writing GGUF version 3, llama.cpp's file format: little-endian; a header, typed metadata, the
// tensors' descriptions, then their data at multiples of 32 bytes
// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tensors/safetensors_writer.h"

namespace drystone::tensors {

using GgufValue = std::variant<std::uint32_t, float, std::string>;

struct GgufContents {
  std::vector<std::pair<std::string, GgufValue>> metadata;
  NamedTensors tensors;  ///< written as float32; the format lists dimensions innermost first
};

/// The file stands complete under its name or not at all. Equal contents give equal bytes.
/// @throws core::InvalidArgument  a name twice   @throws core::IoError
void write_gguf(const std::filesystem::path& file, const GgufContents& contents);

}  // namespace drystone::tensors
