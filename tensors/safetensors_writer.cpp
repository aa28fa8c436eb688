#include "tensors/safetensors_writer.h"

#include <cstring>
#include <system_error>

#include "core/check.h"
#include "tensors/safetensors_header.h"

namespace drystone::tensors {
namespace {

/// What may be written as it lies in memory: on CPU and contiguous.
at::Tensor as_written(const at::Tensor& tensor) {
  return tensor.detach().to(at::kCPU).contiguous();
}

core::ByteView bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::uint8_t*>(tensor.const_data_ptr()), tensor.nbytes()};
}

TensorInfo info_of(const at::Tensor& tensor, std::uint64_t begin) {
  TensorInfo info;
  info.dtype = tensor.scalar_type();
  info.shape = tensor.sizes().vec();
  info.begin = begin;
  info.end = begin + static_cast<std::uint64_t>(tensor.numel()) * bytes_per_element(info.dtype);
  return info;
}

void require_usable(const std::string& name, bool is_new) {
  core::require(!name.empty() && name != "__metadata__",
                "safetensors: the name '" + name + "' is empty or reserved");
  core::require(is_new, "safetensors: '" + name + "' was added before");
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::filesystem::path file, Metadata metadata)
    : file_(std::move(file)),
      data_file_(file_.string() + ".data"),
      metadata_(std::move(metadata)),
      data_(std::make_unique<OutputFile>(data_file_)) {}

SafetensorsWriter::~SafetensorsWriter() {
  data_.reset();
  std::error_code ignored;
  std::filesystem::remove(data_file_, ignored);
}

void SafetensorsWriter::add(const std::string& name, const at::Tensor& tensor) {
  core::require(data_ != nullptr, "SafetensorsWriter: add after finish");
  require_usable(name, names_.insert(name).second);
  const at::Tensor written = as_written(tensor);
  tensors_.emplace_back(name, info_of(written, tensors_.empty() ? 0 : tensors_.back().second.end));
  data_->write(bytes_of(written));
}

void SafetensorsWriter::finish() {
  core::require(data_ != nullptr, "SafetensorsWriter: finish twice");
  data_->close();
  data_.reset();
  OutputFile output(file_);
  output.write(core::as_bytes(format_header(tensors_, metadata_)));
  output.append_file(data_file_);
  output.close();
}

void write_safetensors(const std::filesystem::path& file,
                       const std::map<std::string, at::Tensor>& tensors, const Metadata& metadata) {
  std::vector<std::pair<std::string, TensorInfo>> infos;
  std::uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    require_usable(name, true);
    infos.emplace_back(name, info_of(tensor, offset));
    offset = infos.back().second.end;
  }
  OutputFile output(file);
  output.write(core::as_bytes(format_header(infos, metadata)));
  for (const auto& [name, tensor] : tensors) output.write(bytes_of(as_written(tensor)));
  output.close();
}

core::Bytes to_safetensors(const NamedTensors& tensors, const Metadata& metadata) {
  std::set<std::string> names;
  std::vector<std::pair<std::string, TensorInfo>> infos;
  std::uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    require_usable(name, names.insert(name).second);
    infos.emplace_back(name, info_of(tensor, offset));
    offset = infos.back().second.end;
  }
  const std::string header = format_header(infos, metadata);
  core::Bytes bytes(header.size() + offset);
  std::memcpy(bytes.data(), header.data(), header.size());
  std::size_t position = header.size();
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor written = as_written(tensor);
    const core::ByteView content = bytes_of(written);
    if (!content.empty()) std::memcpy(bytes.data() + position, content.data(), content.size());
    position += content.size();
  }
  return bytes;
}

}  // namespace drystone::tensors
