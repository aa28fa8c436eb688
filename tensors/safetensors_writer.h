#pragma once
// Writing the safetensors format, deterministically and a tensor at a time.

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/bytes.h"
#include "tensors/output_file.h"
#include "tensors/safetensors.h"

namespace drystone::tensors {

using Metadata = std::map<std::string, std::string>;

/// Writes a file whose tensors become known one after the other, so that memory holds one at a
/// time: the data goes to FILE.data first, finish() puts the header before it. Tensors lie in the
/// order of add(); equal calls give equal bytes, equal to write_safetensors' for names in ascending
/// order. Without finish() nothing stands under FILE. No fsync: who publishes the file does that.
/// One thread at a time.
class SafetensorsWriter {
 public:
  /// @throws core::IoError
  explicit SafetensorsWriter(std::filesystem::path file, Metadata metadata = {});
  ~SafetensorsWriter();  ///< removes FILE.data
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  /// Any device and strides; one of the dtypes of safetensors.h.
  /// @throws core::InvalidArgument  a name twice, empty or reserved; another dtype
  /// @throws core::IoError
  void add(const std::string& name, const at::Tensor& tensor);
  /// @throws core::IoError
  void finish();

 private:
  std::filesystem::path file_;
  std::filesystem::path data_file_;
  Metadata metadata_;
  std::unique_ptr<OutputFile> data_;
  std::vector<std::pair<std::string, TensorInfo>> tensors_;
  std::set<std::string> names_;
};

/// All at once, in the map's order. @throws as SafetensorsWriter
void write_safetensors(const std::filesystem::path& file,
                       const std::map<std::string, at::Tensor>& tensors,
                       const Metadata& metadata = {});

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// In memory, in the given order. @throws core::InvalidArgument as SafetensorsWriter::add
core::Bytes to_safetensors(const NamedTensors& tensors, const Metadata& metadata = {});

}  // namespace drystone::tensors
