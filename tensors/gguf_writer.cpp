#include "tensors/gguf_writer.h"

#include <bit>
#include <cstring>
#include <set>
#include <type_traits>

#include "core/check.h"
#include "tensors/output_file.h"

namespace drystone::tensors {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is written as it lies in memory");

constexpr std::uint32_t kVersion = 3;
constexpr std::uint64_t kAlignment = 32;
constexpr std::uint32_t kTensorFloat32 = 0;  // ggml_type
enum class ValueType : std::uint32_t { Uint32 = 4, Float32 = 6, String = 8 };

std::uint64_t padded(std::uint64_t size) {
  return (size + kAlignment - 1) / kAlignment * kAlignment;
}

class Buffer {
 public:
  template <typename Number>
    requires(std::is_arithmetic_v<Number> || std::is_enum_v<Number>)
  void add(Number number) {
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(&number);
    bytes_.insert(bytes_.end(), bytes, bytes + sizeof(number));
  }
  void add(const std::string& text) {
    add(static_cast<std::uint64_t>(text.size()));
    bytes_.insert(bytes_.end(), text.begin(), text.end());
  }
  void add(const GgufValue& value) {
    constexpr ValueType kTypes[] = {ValueType::Uint32, ValueType::Float32, ValueType::String};
    add(kTypes[value.index()]);
    std::visit([&](const auto& plain) { add(plain); }, value);
  }
  void pad() { bytes_.resize(padded(bytes_.size())); }
  core::ByteView bytes() const { return bytes_; }

 private:
  core::Bytes bytes_;
};

std::uint64_t data_bytes(const at::Tensor& tensor) {
  return static_cast<std::uint64_t>(tensor.numel()) * sizeof(float);
}

Buffer header_of(const GgufContents& contents) {
  Buffer header;
  for (const char letter : {'G', 'G', 'U', 'F'}) header.add(letter);
  header.add(kVersion);
  header.add(static_cast<std::uint64_t>(contents.tensors.size()));
  header.add(static_cast<std::uint64_t>(contents.metadata.size()));
  for (const auto& [key, value] : contents.metadata) {
    header.add(key);
    header.add(value);
  }
  std::uint64_t offset = 0;
  for (const auto& [name, tensor] : contents.tensors) {
    header.add(name);
    header.add(static_cast<std::uint32_t>(tensor.dim()));
    for (std::int64_t d = tensor.dim(); d-- > 0;) {
      header.add(static_cast<std::uint64_t>(tensor.size(d)));
    }
    header.add(kTensorFloat32);
    header.add(offset);
    offset += padded(data_bytes(tensor));
  }
  header.pad();
  return header;
}

void write_part(const std::filesystem::path& part, const GgufContents& contents) {
  OutputFile output(part);
  output.write(header_of(contents).bytes());
  const core::Bytes zeros(kAlignment);
  for (const auto& [name, tensor] : contents.tensors) {
    const at::Tensor data = tensor.detach().to(at::kCPU, at::kFloat).contiguous();
    const std::uint64_t size = data_bytes(data);
    output.write({static_cast<const std::uint8_t*>(data.const_data_ptr()), size});
    output.write({zeros.data(), padded(size) - size});
  }
  output.close();
}

}  // namespace

void write_gguf(const std::filesystem::path& file, const GgufContents& contents) {
  std::set<std::string> names;
  for (const auto& [name, tensor] : contents.tensors) {
    core::require(names.insert(name).second, "write_gguf: two tensors named " + name);
  }
  std::filesystem::path part = file;
  part += ".part";
  try {
    write_part(part, contents);
    std::filesystem::rename(part, file);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(part, ignored);
    throw;
  }
}

}  // namespace drystone::tensors
