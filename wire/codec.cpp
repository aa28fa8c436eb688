#include "wire/codec.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include <kj/exception.h>

#include "core/check.h"
#include "wire/text.h"

namespace drystone::wire {

namespace {

/// Words that a reader may follow: each word of the frame twice (once read, once copied), so that
/// pointers that share a target cannot multiply the work.
capnp::ReaderOptions options_for(std::size_t num_words) {
  capnp::ReaderOptions options;
  options.traversalLimitInWords = 2 * num_words + 16;
  options.nestingLimit = 8;
  return options;
}

kj::Array<capnp::word> aligned_copy(core::ByteView frame, std::uint64_t max_bytes) {
  if (frame.size() > max_bytes) {
    throw Malformed{core::Refusal::TooLarge, "frame of " + std::to_string(frame.size()) +
                                                 " bytes, allowed are " +
                                                 std::to_string(max_bytes)};
  }
  if (frame.empty() || frame.size() % sizeof(capnp::word) != 0) {
    malformed("frame of " + std::to_string(frame.size()) + " bytes is not a message");
  }
  auto words = kj::heapArray<capnp::word>(frame.size() / sizeof(capnp::word));
  std::memcpy(words.begin(), frame.data(), frame.size());
  return words;
}

}  // namespace

void malformed(std::string detail) {
  throw Malformed{core::Refusal::MalformedFrame, std::move(detail)};
}

core::Bytes to_bytes(kj::Array<capnp::word> canonical, std::uint64_t max_bytes,
                     std::string_view what) {
  const auto bytes = canonical.asBytes();
  core::require(bytes.size() <= max_bytes, "encode: a " + std::string(what) + " of " +
                                               std::to_string(bytes.size()) +
                                               " bytes, allowed are " + std::to_string(max_bytes));
  return {bytes.begin(), bytes.end()};
}

FrameReader::FrameReader(core::ByteView frame, std::uint64_t max_bytes)
    : words_(aligned_copy(frame, max_bytes)),
      segment_(words_.asPtr()),
      message_(kj::arrayPtr(&segment_, 1), options_for(words_.size())) {}

core::Failure failure_of(const std::exception_ptr& error) {
  constexpr std::size_t kMaxDetail = 200;
  try {
    std::rethrow_exception(error);
  } catch (const Malformed& complaint) {
    return {complaint.code, complaint.detail};
  } catch (const kj::Exception& complaint) {
    return {core::Refusal::MalformedFrame,
            "Cap'n Proto: " + clean_text(complaint.getDescription().cStr(), kMaxDetail)};
  }
}

std::string read_text(capnp::Text::Reader text, std::uint64_t max_bytes, std::string_view field) {
  const std::string_view view(text.begin(), text.size());
  if (view.size() > max_bytes) {
    malformed(std::string(field) + ": " + std::to_string(view.size()) + " bytes, allowed are " +
              std::to_string(max_bytes));
  }
  if (!is_clean_text(view)) malformed(std::string(field) + ": not printable UTF-8");
  return std::string(view);
}

core::Digest read_digest(capnp::Data::Reader data, std::string_view field) {
  core::Digest digest{};
  if (data.size() != digest.size()) {
    malformed(std::string(field) + ": a digest of " + std::to_string(data.size()) + " bytes");
  }
  std::ranges::copy(data, digest.begin());
  return digest;
}

crypto::Signature read_signature(capnp::Data::Reader data) {
  crypto::Signature signature{};
  if (data.size() != signature.size()) {
    malformed("signature of " + std::to_string(data.size()) + " bytes");
  }
  std::ranges::copy(data, signature.begin());
  return signature;
}

double read_finite(double value, std::string_view field) {
  if (!std::isfinite(value)) {
    throw Malformed{core::Refusal::NotFinite, std::string(field) + " is not a finite number"};
  }
  return value;
}

void check_count(std::uint64_t count, std::uint64_t max_count, std::string_view field) {
  if (count > max_count) {
    malformed(std::string(field) + ": " + std::to_string(count) + " entries, allowed are " +
              std::to_string(max_count));
  }
}

unsigned as_list_size(std::size_t size) {
  core::require(size <= std::numeric_limits<unsigned>::max() / 16, "encode: list too long");
  return static_cast<unsigned>(size);
}

}  // namespace drystone::wire
