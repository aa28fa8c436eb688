#pragma once
// Reading the safetensors format (https://huggingface.co/docs/safetensors): an 8-byte little-endian
// header length, a JSON header, then the tensors' bytes without holes.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include <ATen/core/Tensor.h>

#include "core/bytes.h"
#include "core/expected.h"
#include "core/mapped_file.h"
#include "tensors/tensor_info.h"

namespace drystone::tensors {

/// A validated header.
struct SafetensorsHeader {
  std::map<std::string, TensorInfo> tensors;
  std::map<std::string, std::string> metadata;  ///< `__metadata__`
  std::uint64_t data_offset = 0;                ///< where the data starts in the file
};

/// Bounds that are checked before anything is allocated for what they bound.
struct SafetensorsLimits {
  std::uint64_t max_header_bytes = 100'000'000;  ///< the format's own bound
  std::size_t max_tensors = 1'000'000;
  std::size_t max_dimensions = 16;
};

/// Validates a whole file from an untrusted source; makes no tensor. What comes back is complete:
/// known dtypes (F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL), no name twice, each byte range equal to
/// dtype size × shape, and the ranges tile the data exactly, without hole, overlap or trailing
/// byte. Refuses with MalformedFrame, TooLarge (a limit) or PayloadMismatch (truncated, trailing
/// bytes). Costs time and memory in the order of the header's length, whatever the header claims.
core::Expected<SafetensorsHeader> parse_safetensors(core::ByteView file,
                                                    const SafetensorsLimits& limits = {});

/// The bytes of one tensor of `file`, which `header` was parsed from.
core::ByteView tensor_bytes(const SafetensorsHeader& header, const TensorInfo& info,
                            core::ByteView file);

/// A copy of one tensor, on CPU, contiguous, owning its memory.
at::Tensor copy_tensor(const TensorInfo& info, core::ByteView bytes);

/// An open file. Copies are cheap and share the mapping. Any number of threads may read at once.
class SafetensorsFile {
 public:
  /// @throws core::IoError  unreadable, or not a valid safetensors file; names the file
  explicit SafetensorsFile(std::filesystem::path file, const SafetensorsLimits& limits = {});

  const std::filesystem::path& path() const { return path_; }
  const SafetensorsHeader& header() const { return header_; }
  bool contains(const std::string& name) const { return header_.tensors.contains(name); }
  /// The whole file.
  core::ByteView bytes() const { return mapping_->bytes(); }
  /// The tensor without a copy: a contiguous CPU view of the mapped file that keeps the mapping
  /// alive. Read-only: an in-place operation on it ends the process (SIGSEGV); clone to change it.
  /// Where the file places it off the alignment of its dtype, a copy.
  /// @throws core::IoError  no tensor of that name, or a BOOL that is neither 0 nor 1
  at::Tensor tensor(const std::string& name) const;
  /// See core::MappedFile::forget_pages.
  void forget_pages() const { mapping_->forget_pages(); }

 private:
  std::filesystem::path path_;
  std::shared_ptr<const core::MappedFile> mapping_;
  SafetensorsHeader header_;
};

}  // namespace drystone::tensors
