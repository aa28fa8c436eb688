#include "tensors/safetensors_header.h"

#include <algorithm>
#include <array>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace drystone::tensors {
namespace {

struct DtypeName {
  std::string_view name;
  at::ScalarType dtype;
  std::uint64_t bytes;
};

constexpr std::array<DtypeName, 12> kDtypes = {{
    {"F64", at::ScalarType::Double, 8},
    {"F32", at::ScalarType::Float, 4},
    {"F16", at::ScalarType::Half, 2},
    {"BF16", at::ScalarType::BFloat16, 2},
    {"I64", at::ScalarType::Long, 8},
    {"I32", at::ScalarType::Int, 4},
    {"I16", at::ScalarType::Short, 2},
    {"I8", at::ScalarType::Char, 1},
    {"U8", at::ScalarType::Byte, 1},
    {"BOOL", at::ScalarType::Bool, 1},
    {"F8_E4M3", at::ScalarType::Float8_e4m3fn, 1},
    {"F8_E5M2", at::ScalarType::Float8_e5m2, 1},
}};

const DtypeName& find_dtype(at::ScalarType dtype) {
  const auto* found = std::find_if(kDtypes.begin(), kDtypes.end(),
                                   [&](const DtypeName& entry) { return entry.dtype == dtype; });
  if (found == kDtypes.end()) {
    throw core::InvalidArgument(std::string("safetensors: no name for dtype ") +
                                c10::toString(dtype));
  }
  return *found;
}

std::string format_entry(const TensorInfo& info) {
  std::string text = "{\"dtype\":\"" + std::string(name_of_dtype(info.dtype)) + "\",\"shape\":[";
  for (std::size_t i = 0; i < info.shape.size(); ++i) {
    text += (i == 0 ? "" : ",") + std::to_string(info.shape[i]);
  }
  return text + "],\"data_offsets\":[" + std::to_string(info.begin) + "," +
         std::to_string(info.end) + "]}";
}

}  // namespace

std::optional<at::ScalarType> dtype_from_name(std::string_view name) {
  for (const DtypeName& entry : kDtypes) {
    if (entry.name == name) return entry.dtype;
  }
  return std::nullopt;
}

std::string_view name_of_dtype(at::ScalarType dtype) { return find_dtype(dtype).name; }

std::uint64_t bytes_per_element(at::ScalarType dtype) { return find_dtype(dtype).bytes; }

std::string quote_json(const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw core::InvalidArgument("safetensors: a name or metadata value is not UTF-8");
  }
}

std::string format_header(std::span<const std::pair<std::string, TensorInfo>> tensors,
                          const std::map<std::string, std::string>& metadata) {
  std::string json = "{";
  if (!metadata.empty()) {
    json += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      if (json.back() != '{') json += ",";
      json += quote_json(key) + ":" + quote_json(value);
    }
    json += "}";
  }
  for (const auto& [name, info] : tensors) {
    if (json.size() > 1) json += ",";
    json += quote_json(name) + ":" + format_entry(info);
  }
  json += "}";
  json.append((8 - json.size() % 8) % 8, ' ');

  std::string header;
  for (unsigned shift = 0; shift < 64; shift += 8) {
    header.push_back(static_cast<char>((std::uint64_t{json.size()} >> shift) & 0xff));
  }
  return header + json;
}

}  // namespace drystone::tensors
