#include "aggregation/layout.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "tensors/factor_set_io.h"

namespace drystone::aggregation {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kMaxLayoutBytes = std::uint64_t{1} << 26;

Json parsed(std::string_view text) {
  try {
    return core::parse_json(text, "layout", {.max_bytes = kMaxLayoutBytes});
  } catch (const core::ConfigError& error) {
    throw core::InvalidArgument(error.what());
  }
}

std::vector<int64_t> sizes_from_json(const std::string& name, const Json& value) {
  core::require(value.is_array(), "layout: '" + name + "' has no list of sizes");
  std::vector<int64_t> sizes;
  for (const Json& size : value) {
    core::require(
        size.is_number_unsigned() && size > 0 && size <= std::numeric_limits<int64_t>::max(),
        "layout: '" + name + "' has a size that is no positive integer");
    sizes.push_back(size.get<int64_t>());
  }
  return sizes;
}

void read_norms(const Json& norms, AdapterLayout& layout) {
  core::require(norms.is_object(), "layout: 'norms' is no object");
  for (const auto& [name, value] : norms.items()) {
    const bool is_part = layout.modules.contains(name) || layout.dense.contains(name);
    core::require(is_part && value.is_number() && value >= 0.0,
                  "layout: norm of '" + name + "' is no number, or of no part");
    layout.norms.emplace(name, value.get<double>());
  }
}

/// A product and sum that remembers whether it left 63 bits.
class CheckedBytes {
 public:
  void add(std::uint64_t bytes) { fits_ &= !__builtin_add_overflow(total_, bytes, &total_); }
  void add_floats(const std::vector<int64_t>& sizes) {
    std::uint64_t bytes = sizeof(float);
    for (const int64_t size : sizes) {
      fits_ &= !__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(size), &bytes);
    }
    add(bytes);
  }
  /// One header entry: the name with every character escaped, the sizes and offsets at full length.
  void add_entry(const std::string& name, std::size_t num_dimensions) {
    constexpr std::uint64_t kPerCharacter = 6;  // \u0000
    constexpr std::uint64_t kPerNumber = 21;    // 20 digits, comma
    constexpr std::uint64_t kSyntax = 64;       // :{"dtype":"F32","shape":[],"data_offsets":[]},
    add(kPerCharacter * name.size() + kPerNumber * (num_dimensions + 2) + kSyntax);
  }

  std::uint64_t total() const {
    core::require(
        fits_ && total_ <= static_cast<std::uint64_t>(std::numeric_limits<int64_t>::max()),
        "layout: larger than any file");
    return total_;
  }

 private:
  std::uint64_t total_ = 0;
  bool fits_ = true;
};

}  // namespace

std::string to_json(const AdapterLayout& layout) {
  Json json = {{"modules", Json::object()}, {"dense", Json::object()}};
  for (const auto& [name, module] : layout.modules) {
    json["modules"][name] = {module.out, module.in};
  }
  for (const auto& [name, shape] : layout.dense) json["dense"][name] = shape;
  if (!layout.norms.empty()) json["norms"] = layout.norms;
  return json.dump(2) + "\n";
}

AdapterLayout layout_from_json(std::string_view text) {
  const Json json = parsed(text);
  const std::size_t expected = json.contains("norms") ? 3 : 2;
  core::require(json.is_object() && json.size() == expected && json.contains("modules") &&
                    json.contains("dense") && json["modules"].is_object() &&
                    json["dense"].is_object(),
                "layout: is no object with the objects 'modules' and 'dense'");
  AdapterLayout layout;
  for (const auto& [name, value] : json["modules"].items()) {
    const auto sizes = sizes_from_json(name, value);
    core::require(sizes.size() == 2, "layout: module '" + name + "' is not [out, in]");
    layout.modules.emplace(name, ModuleLayout{.out = sizes[0], .in = sizes[1]});
  }
  for (const auto& [name, value] : json["dense"].items()) {
    layout.dense.emplace(name, sizes_from_json(name, value));
  }
  if (json.contains("norms")) read_norms(json["norms"], layout);
  return layout;
}

void write_layout(const std::filesystem::path& file, const AdapterLayout& layout) {
  core::write_file_atomic(file, core::as_bytes(to_json(layout)));
}

AdapterLayout read_layout(const std::filesystem::path& file) {
  const std::string text = core::read_text_file(file, kMaxLayoutBytes);
  try {
    return layout_from_json(text);
  } catch (const core::InvalidArgument& error) {
    throw core::IoError(file.string() + ": " + error.what());
  }
}

std::uint64_t max_header_bytes(const AdapterLayout& layout) {
  constexpr std::uint64_t kFixed = 512;  // length prefix, braces, metadata, padding
  CheckedBytes bytes;
  bytes.add(kFixed);
  for (const auto& [name, module] : layout.modules) {
    for (const tensors::Side side : {tensors::Side::A, tensors::Side::B}) {
      // Whichever form it comes in: dense, or a selector's index and value.
      bytes.add_entry(tensors::index_key(name, side, std::numeric_limits<std::int32_t>::max()), 2);
    }
    bytes.add_entry(tensors::value_key(name, tensors::Side::A), 1);  // at most one selects
  }
  for (const auto& [name, shape] : layout.dense) bytes.add_entry(name, shape.size());
  return bytes.total();
}

std::uint64_t max_payload_bytes(const AdapterLayout& layout, int64_t max_rank) {
  core::require(max_rank >= 1, "max_payload_bytes: max_rank must be at least 1");
  CheckedBytes bytes;
  bytes.add(max_header_bytes(layout));
  for (const auto& [name, module] : layout.modules) {
    bytes.add_floats({module.out, max_rank});
    bytes.add_floats({max_rank, module.in});
  }
  for (const auto& [name, shape] : layout.dense) bytes.add_floats(shape);
  return bytes.total();
}

int64_t version_rank(const ModuleLayout& module, int64_t max_rank) {
  return std::max(max_rank, std::min(module.out, module.in));
}

std::uint64_t max_version_bytes(const AdapterLayout& layout, int64_t max_rank) {
  CheckedBytes bytes;
  bytes.add(max_header_bytes(layout));
  for (const auto& [name, module] : layout.modules) {
    bytes.add_floats({module.out + module.in, version_rank(module, max_rank)});
  }
  for (const auto& [name, shape] : layout.dense) bytes.add_floats(shape);
  return bytes.total();
}

}  // namespace drystone::aggregation
