#pragma once
// Internal to tensors: the format's dtype names and the writing of a header.

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <c10/core/ScalarType.h>

#include "tensors/tensor_info.h"

namespace drystone::tensors {

/// "F32" → Float …; std::nullopt for a name outside the supported set.
std::optional<at::ScalarType> dtype_from_name(std::string_view name);

/// @throws core::InvalidArgument  a dtype outside the supported set
std::string_view name_of_dtype(at::ScalarType dtype);

std::uint64_t bytes_per_element(at::ScalarType dtype);

/// The length prefix and the JSON, padded with spaces so that the data starts at a multiple of 8.
/// Byte for byte what Python's `safetensors` writes for the same tensors in the same order.
std::string format_header(std::span<const std::pair<std::string, TensorInfo>> tensors,
                          const std::map<std::string, std::string>& metadata);

/// Text as a JSON string with its quotes; ill-formed UTF-8 is refused.
/// @throws core::InvalidArgument
std::string quote_json(const std::string& text);

}  // namespace drystone::tensors
