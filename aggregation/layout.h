#pragma once
// The shape that every update and version of a federation has: fixed by the base model and the
// plan.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace drystone::aggregation {

struct ModuleLayout {
  int64_t out = 0;
  int64_t in = 0;
  bool operator==(const ModuleLayout&) const = default;
};

/// Modules that carry an adapter, and dense parts with their shapes. Ranks are not part of it: each
/// client has its own.
struct AdapterLayout {
  std::map<std::string, ModuleLayout> modules;
  std::map<std::string, std::vector<int64_t>> dense;
  /// Frobenius norm of the base's weight or dense part, by either's name: what an update's size is
  /// measured by, where nobody has the model. A part without one has none to be measured by.
  std::map<std::string, double> norms;
  bool operator==(const AdapterLayout&) const = default;
};

/// {"modules": {name: [out, in]}, "dense": {name: [sizes]}, "norms": {name: number}} with sorted
/// keys: equal layouts give equal text. Layouts of older releases have no "norms".
std::string to_json(const AdapterLayout& layout);

/// @throws core::InvalidArgument  not of the form that to_json writes, or a size below 1, a
///                                norm that is no number ≥ 0 or of no part
AdapterLayout layout_from_json(std::string_view json);

/// As text in a file (layout.json). @throws core::IoError  names the file
void write_layout(const std::filesystem::path& file, const AdapterLayout& layout);
AdapterLayout read_layout(const std::filesystem::path& file);

/// Most bytes that the header of an update of this layout may have, its length prefix included.
/// @throws core::InvalidArgument  the bound leaves 63 bits
std::uint64_t max_header_bytes(const AdapterLayout& layout);

/// Most bytes that an update of this layout may have when no module exceeds `max_rank`: what bounds
/// a client's claim before a byte of it is accepted.
/// @throws core::InvalidArgument  max_rank < 1, or the bound leaves 63 bits
std::uint64_t max_payload_bytes(const AdapterLayout& layout, int64_t max_rank);

/// Largest rank of a module in a published version: what the module can hold, and `max_rank` where
/// that is more, since nobody compacts.
int64_t version_rank(const ModuleLayout& module, int64_t max_rank);

/// Most bytes that a published version of this layout may have.
/// @throws core::InvalidArgument  the bound leaves 63 bits
std::uint64_t max_version_bytes(const AdapterLayout& layout, int64_t max_rank);

}  // namespace drystone::aggregation
