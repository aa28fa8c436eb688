#include "tensors/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <string_view>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/error.h"
#include "core/shorten.h"
#include "core/text.h"
#include "tensors/safetensors_header.h"

namespace drystone::tensors {

static_assert(std::endian::native == std::endian::little, "safetensors is little-endian");

namespace {

using core::Refusal;

constexpr std::uint64_t kLengthBytes = 8;

/// A tensor's name for messages: the file chose it.
std::string shown(const std::string& name) { return core::shorten(core::quote(name), 200); }

/// Reads the header as a stream of tokens: no document is built, so depth and size cost nothing.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(const SafetensorsLimits& limits) : limits_(limits) {}

  SafetensorsHeader take_header() { return std::move(header_); }
  const core::Failure& failure() const { return failure_; }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    return unexpected("a number that is no 64-bit integer");
  }
  bool binary(binary_t&) override { return unexpected("binary"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::Offsets) {
      if (offsets_.size() == 2)
        return fail("data_offsets of " + shown(name_) + " has more than two");
      offsets_.push_back(value);
      return true;
    }
    if (place_ != Place::Shape) return unexpected("a number");
    if (info_.shape.size() == limits_.max_dimensions) {
      return fail(shown(name_) + " has too many dimensions", Refusal::TooLarge);
    }
    if (value > static_cast<std::uint64_t>(std::numeric_limits<int64_t>::max())) {
      return fail(shown(name_) + " has a dimension beyond 2^63");
    }
    info_.shape.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::Metadata && !field_.empty()) {
      header_.metadata.emplace(std::exchange(field_, {}).substr(1), value);
      return true;
    }
    if (place_ != Place::Tensor || field_ != "dtype") return unexpected("a string");
    const auto dtype = dtype_from_name(value);
    if (!dtype) {
      return fail(shown(name_) + " has the unknown dtype " + core::quote(value.substr(0, 16)));
    }
    info_.dtype = *dtype;
    return true;
  }

  bool key(string_t& value) override {
    switch (place_) {
      case Place::Top: return begin_entry(value);
      case Place::Tensor: return begin_field(value);
      case Place::Metadata:
        if (header_.metadata.contains(value)) return fail("a metadata key stands twice");
        field_ = "=" + value;  // marks the empty key, which is legal, as seen
        return true;
      default: return unexpected("a key");
    }
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::Start) {
      place_ = Place::Top;
      return true;
    }
    if (place_ != Place::Top || name_.empty()) return unexpected("an object");
    place_ = in_metadata_ ? Place::Metadata : Place::Tensor;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::Tensor) return end_tensor();
    if (place_ == Place::Metadata) {
      in_metadata_ = false;
      place_ = Place::Top;
      return true;
    }
    place_ = Place::End;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::Tensor) return unexpected("an array");
    if (field_ == "shape") {
      place_ = Place::Shape;
    } else if (field_ == "data_offsets") {
      place_ = Place::Offsets;
    } else {
      return unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    place_ = Place::Tensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception&) override {
    return fail("the header is no JSON at byte " + std::to_string(position));
  }

 private:
  enum class Place { Start, Top, Tensor, Metadata, Shape, Offsets, End };
  static constexpr std::array<std::string_view, 3> kFields = {"dtype", "shape", "data_offsets"};
  static constexpr unsigned kAllFields = (1U << kFields.size()) - 1;

  bool fail(std::string detail, Refusal code = Refusal::MalformedFrame) {
    failure_ = {code, "safetensors: " + std::move(detail)};
    return false;
  }
  bool unexpected(std::string_view what) {
    return fail("the header has " + std::string(what) + " where none belongs");
  }

  bool begin_entry(const std::string& name) {
    if (name.empty()) return fail("a tensor without a name");
    in_metadata_ = name == "__metadata__";
    if (in_metadata_ && std::exchange(has_metadata_, true)) return fail("the metadata stand twice");
    if (!in_metadata_ && header_.tensors.size() == limits_.max_tensors) {
      return fail("more than " + std::to_string(limits_.max_tensors) + " tensors",
                  Refusal::TooLarge);
    }
    name_ = name;
    info_ = {};
    offsets_.clear();
    fields_ = 0;
    field_.clear();
    return true;
  }

  bool begin_field(const std::string& name) {
    const auto* const found = std::ranges::find(kFields, name);
    if (found == kFields.end()) return fail(shown(name_) + " has an unknown field");
    const unsigned bit = 1U << (found - kFields.begin());
    if ((fields_ & bit) != 0) return fail(shown(name_) + " has a field twice");
    fields_ |= bit;
    field_ = name;
    return true;
  }

  bool end_tensor() {
    if (fields_ != kAllFields || offsets_.size() != 2) return fail(shown(name_) + " is incomplete");
    info_.begin = offsets_[0];
    info_.end = offsets_[1];
    const std::size_t before = header_.tensors.size();  // writers sort names: the end is the place
    header_.tensors.emplace_hint(header_.tensors.end(), name_, std::move(info_));
    if (header_.tensors.size() == before) return fail(shown(name_) + " stands twice");
    name_.clear();
    place_ = Place::Top;
    return true;
  }

  const SafetensorsLimits& limits_;
  SafetensorsHeader header_;
  core::Failure failure_{Refusal::MalformedFrame, "safetensors: the header ends too early"};
  Place place_ = Place::Start;
  bool has_metadata_ = false;
  bool in_metadata_ = false;
  std::string name_;     // of the entry being read
  std::string field_;    // of the entry being read; "=" + key inside metadata
  unsigned fields_ = 0;  // of kFields, seen in this entry
  std::vector<std::uint64_t> offsets_;
  TensorInfo info_;
};

/// dtype size × shape; false when the product leaves 64 bits.
bool num_bytes(const TensorInfo& info, std::uint64_t& bytes) {
  bytes = bytes_per_element(info.dtype);
  bool is_empty = false;
  for (const int64_t size : info.shape) {
    if (size == 0) is_empty = true;
    if (size != 0 && __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(size), &bytes)) {
      return false;
    }
  }
  if (is_empty) bytes = 0;
  return bytes <= static_cast<std::uint64_t>(std::numeric_limits<int64_t>::max());
}

core::Expected<void> check_ranges(const SafetensorsHeader& header, std::uint64_t data_bytes) {
  std::vector<std::pair<const std::string*, const TensorInfo*>> by_offset;
  by_offset.reserve(header.tensors.size());
  for (const auto& [name, info] : header.tensors) by_offset.emplace_back(&name, &info);
  std::sort(by_offset.begin(), by_offset.end(), [](const auto& left, const auto& right) {
    return std::pair(left.second->begin, left.second->end) <
           std::pair(right.second->begin, right.second->end);
  });

  std::uint64_t expected_begin = 0;
  for (const auto& [name, info] : by_offset) {
    std::uint64_t bytes = 0;
    if (!num_bytes(*info, bytes)) {
      return core::refuse(Refusal::TooLarge,
                          "safetensors: the shape of " + shown(*name) + " overflows");
    }
    if (info->begin != expected_begin || info->end < info->begin) {
      return core::refuse(Refusal::MalformedFrame, "safetensors: " + shown(*name) +
                                                       " leaves a hole or overlaps at byte " +
                                                       std::to_string(info->begin));
    }
    if (info->end - info->begin != bytes) {
      return core::refuse(Refusal::MalformedFrame, "safetensors: " + shown(*name) + " has " +
                                                       std::to_string(info->end - info->begin) +
                                                       " bytes, its shape needs " +
                                                       std::to_string(bytes));
    }
    expected_begin = info->end;
  }
  if (expected_begin != data_bytes) {
    return core::refuse(Refusal::PayloadMismatch, "safetensors: holds " +
                                                      std::to_string(data_bytes) +
                                                      " bytes of data, the header describes " +
                                                      std::to_string(expected_begin));
  }
  return {};
}

/// The header's text, once its length is known to lie within the limits and the file.
core::Expected<std::string_view> header_text(core::ByteView file, const SafetensorsLimits& limits) {
  if (file.size() < kLengthBytes) {
    return core::refuse(Refusal::PayloadMismatch, "safetensors: shorter than a length prefix");
  }
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), kLengthBytes);
  if (length > limits.max_header_bytes) {
    return core::refuse(Refusal::TooLarge, "safetensors: claims a header of " +
                                               std::to_string(length) + " bytes, the limit is " +
                                               std::to_string(limits.max_header_bytes));
  }
  if (length > file.size() - kLengthBytes) {
    return core::refuse(Refusal::PayloadMismatch, "safetensors: the header ends beyond the file");
  }
  const std::string_view text = core::as_text(file.subspan(kLengthBytes, length));
  if (!text.starts_with('{')) {  // also keeps a byte order mark out
    return core::refuse(Refusal::MalformedFrame, "safetensors: the header is no JSON object");
  }
  return text;
}

bool is_aligned(const std::uint8_t* data, const TensorInfo& info) {
  return std::bit_cast<std::uintptr_t>(data) % bytes_per_element(info.dtype) == 0;
}

}  // namespace

core::Expected<SafetensorsHeader> parse_safetensors(core::ByteView file,
                                                    const SafetensorsLimits& limits) {
  const auto text = header_text(file, limits);
  if (!text) return tl::make_unexpected(text.error());
  HeaderReader reader(limits);
  if (!nlohmann::json::sax_parse(text->begin(), text->end(), &reader)) {
    return tl::make_unexpected(reader.failure());
  }
  SafetensorsHeader header = reader.take_header();
  header.data_offset = kLengthBytes + text->size();
  const auto ranges = check_ranges(header, file.size() - header.data_offset);
  if (!ranges) return tl::make_unexpected(ranges.error());
  return header;
}

core::ByteView tensor_bytes(const SafetensorsHeader& header, const TensorInfo& info,
                            core::ByteView file) {
  return file.subspan(header.data_offset + info.begin, info.end - info.begin);
}

at::Tensor copy_tensor(const TensorInfo& info, core::ByteView bytes) {
  core::require(bytes.size() == info.end - info.begin, "copy_tensor: wrong number of bytes");
  at::Tensor tensor = at::empty(info.shape, at::TensorOptions().dtype(info.dtype));
  if (!bytes.empty()) std::memcpy(tensor.mutable_data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

SafetensorsFile::SafetensorsFile(std::filesystem::path file, const SafetensorsLimits& limits)
    : path_(std::move(file)), mapping_(std::make_shared<const core::MappedFile>(path_)) {
  auto header = parse_safetensors(mapping_->bytes(), limits);
  if (!header) throw core::IoError(path_.string() + ": " + header.error().detail);
  header_ = std::move(*header);
}

at::Tensor SafetensorsFile::tensor(const std::string& name) const {
  const auto found = header_.tensors.find(name);
  if (found == header_.tensors.end()) {
    throw core::IoError(path_.string() + ": holds no tensor " + shown(name));
  }
  const TensorInfo& info = found->second;
  const core::ByteView bytes = tensor_bytes(header_, info, mapping_->bytes());
  if (info.dtype == at::ScalarType::Bool &&
      std::any_of(bytes.begin(), bytes.end(), [](std::uint8_t byte) { return byte > 1; })) {
    throw core::IoError(path_.string() + ": " + shown(name) +
                        " has a BOOL that is neither 0 nor 1");
  }
  if (bytes.empty() || !is_aligned(bytes.data(), info)) return copy_tensor(info, bytes);
  return at::from_blob(
      const_cast<std::uint8_t*>(bytes.data()), info.shape, [keep = mapping_](void*) {},
      at::TensorOptions().dtype(info.dtype));
}

}  // namespace drystone::tensors
