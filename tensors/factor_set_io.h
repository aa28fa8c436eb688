#pragma once
// Factor sets as safetensors: what clients upload, what the coordinator publishes.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/bytes.h"
#include "core/expected.h"
#include "tensors/factors.h"
#include "tensors/safetensors.h"
#include "tensors/safetensors_writer.h"

namespace drystone::tensors {

/// Value of the metadata key "format". Keys are `<module>.lora_A.weight` [rank, in] and
/// `<module>.lora_B.weight` [out, rank] of one rank ≥ 1; every other key is a dense part. All
/// float32.
inline constexpr std::string_view kFactorsFormat = "drystone-factors-1";

struct FactorsShape {
  int64_t out = 0;
  int64_t in = 0;
  int64_t rank = 0;
  bool operator==(const FactorsShape&) const = default;
};

/// What a payload holds, read off its header.
struct FactorSetShapes {
  std::map<std::string, FactorsShape> modules;
  std::map<std::string, std::vector<int64_t>> dense;
  bool operator==(const FactorSetShapes&) const = default;
};

/// What an untrusted payload claims to hold, before any tensor is made. Refuses (PlanMismatch)
/// another format, another dtype, an A without its B, unequal ranks, rank 0.
core::Expected<FactorSetShapes> describe(const SafetensorsHeader& header);

std::string a_key(std::string_view module);
std::string b_key(std::string_view module);

/// A payload file by its modules, without reading it whole: its tensors are read-only views of the
/// mapping (see SafetensorsFile::tensor). Any number of threads may read at once.
class FactorSetFile {
 public:
  /// @throws core::IoError  unreadable or not a factor set; names the file
  explicit FactorSetFile(const std::filesystem::path& file);

  const FactorSetShapes& shapes() const { return shapes_; }
  /// @throws core::IoError  no such module
  Factors module(const std::string& name) const;
  /// @throws core::IoError  no such dense part
  at::Tensor dense(const std::string& name) const;
  void forget_pages() const { file_.forget_pages(); }

 private:
  SafetensorsFile file_;
  FactorSetShapes shapes_;
};

/// Writes a factor set module by module. Equal calls give equal bytes, equal to to_bytes'.
/// Without finish() nothing stands under FILE. One thread at a time.
class FactorSetWriter {
 public:
  /// @throws core::IoError
  explicit FactorSetWriter(const std::filesystem::path& file);

  /// Modules first, then dense parts, each in ascending order of their names.
  /// @throws core::InvalidArgument  out of order, not float32, not a pair of rank ≥ 1
  /// @throws core::IoError
  void add_module(const std::string& name, const Factors& factors);
  void add_dense(const std::string& name, const at::Tensor& tensor);
  void finish();

 private:
  SafetensorsWriter writer_;
  std::optional<std::string> last_module_;
  std::optional<std::string> last_dense_;
};

/// The payload of an update or a version. @throws core::InvalidArgument as FactorSetWriter
core::Bytes to_bytes(const FactorSet& factors);

/// Copies: tensors on CPU, contiguous, without history, owning their memory. Shapes are checked,
/// numbers are not (aggregation/gate_checks.h does that).
core::Expected<FactorSet> factor_set_from_bytes(core::ByteView payload,
                                                const SafetensorsLimits& limits = {});

/// As to_bytes, into a file. @throws core::IoError
void write_factor_set(const std::filesystem::path& file, const FactorSet& factors);

/// As factor_set_from_bytes, from a file. @throws core::IoError  names the file
FactorSet read_factor_set(const std::filesystem::path& file);

}  // namespace drystone::tensors
