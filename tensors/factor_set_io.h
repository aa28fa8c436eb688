#pragma once
// Factor sets as safetensors: what clients upload, what the coordinator publishes.

#include <filesystem>
#include <optional>
#include <string>

#include "core/bytes.h"
#include "core/expected.h"
#include "tensors/factor_header.h"
#include "tensors/factors.h"
#include "tensors/safetensors.h"
#include "tensors/safetensors_writer.h"

namespace drystone::tensors {

/// A payload file by its modules, without reading it whole: its tensors are read-only views of the
/// mapping (see SafetensorsFile::tensor), or the dense form of selectors. Any number of threads may
/// read at once.
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
  std::uint64_t num_bytes() const { return file_.bytes().size(); }

 private:
  SafetensorsFile file_;
  FactorSetShapes shapes_;
};

/// Writes a factor set module by module, all factors dense. Equal calls give equal bytes, equal to
/// to_bytes'. Without finish() nothing stands under FILE. One thread at a time.
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

/// The payload of a version, all factors dense. @throws core::InvalidArgument as FactorSetWriter
core::Bytes to_bytes(const FactorSet& factors);

/// The payload of an update: as to_bytes, but a factor that selects goes as its indices, which
/// halves SBoRA's updates. Reads back to the same bits.
/// @throws core::InvalidArgument as FactorSetWriter
core::Bytes update_to_bytes(const FactorSet& factors);

/// Copies: tensors on CPU, dense, contiguous, without history, owning their memory. Shapes and
/// indices are checked, numbers are not (aggregation/gate_checks.h does that).
core::Expected<FactorSet> factor_set_from_bytes(core::ByteView payload,
                                                const SafetensorsLimits& limits = {});

/// As to_bytes, into a file. @throws core::IoError
void write_factor_set(const std::filesystem::path& file, const FactorSet& factors);

/// As factor_set_from_bytes, from a file. @throws core::IoError  names the file
FactorSet read_factor_set(const std::filesystem::path& file);

}  // namespace drystone::tensors
