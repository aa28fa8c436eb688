#pragma once
// Internal to wire's codec (.cpp files only): canonical bytes from a Cap'n Proto message, and
// reading one from hostile bytes. The one home of kj exceptions.

#include <algorithm>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

#include <capnp/message.h>
#include <capnp/serialize.h>

#include "core/bytes.h"
#include "core/expected.h"
#include "crypto/identity.h"

namespace drystone::wire {

/// Thrown inside a decoder, caught by `decode_root`: never leaves wire.
struct Malformed {
  core::Refusal code;
  std::string detail;
};

[[noreturn]] void malformed(std::string detail);

/// The canonical form of a finished message: one segment, no segment table, so that equal contents
/// have equal bytes. @throws core::InvalidArgument  more than `max_bytes`
core::Bytes to_bytes(kj::Array<capnp::word> canonical, std::uint64_t max_bytes,
                     std::string_view what);

template <typename Reader>
core::Bytes canonical_bytes(Reader reader, std::uint64_t max_bytes, std::string_view what) {
  return to_bytes(capnp::canonicalize(reader), max_bytes, what);
}

/// One word-aligned copy of a frame (Cap'n Proto 0.9 has no unaligned reader) and a reader on it
/// that follows no more words than the frame could honestly need.
class FrameReader {
 public:
  /// @throws Malformed  empty, not whole words, or longer than `max_bytes`: before any allocation
  FrameReader(core::ByteView frame, std::uint64_t max_bytes);

  template <typename Schema>
  typename Schema::Reader root() {
    return message_.getRoot<Schema>();
  }

 private:
  kj::Array<capnp::word> words_;
  kj::ArrayPtr<const capnp::word> segment_;
  capnp::SegmentArrayMessageReader message_;
};

/// Runs `read(reader of Schema's root)` and turns every complaint into a Failure.
core::Failure failure_of(const std::exception_ptr& error);

template <typename Schema, typename Read>
auto decode_root(core::ByteView frame, std::uint64_t max_bytes, Read read)
    -> core::Expected<decltype(read(std::declval<typename Schema::Reader>()))> {
  try {
    FrameReader reader(frame, max_bytes);
    return read(reader.template root<Schema>());
  } catch (...) {
    return tl::make_unexpected(failure_of(std::current_exception()));
  }
}

/// Decodes, then insists that the bytes are the one encoding of what was decoded: a signature must
/// not cover anything that this version does not see.
template <typename Schema, typename Read>
auto decode_signed(core::ByteView bytes, std::uint64_t max_bytes, Read read)
    -> core::Expected<decltype(read(std::declval<typename Schema::Reader>()))> {
  return decode_root<Schema>(bytes, max_bytes, [&](typename Schema::Reader reader) {
    auto value = read(reader);
    if (!std::ranges::equal(encode(value), bytes)) malformed("not in canonical form");
    return value;
  });
}

/// Fields: each refuses what is out of range, before it copies. @throws Malformed
std::string read_text(capnp::Text::Reader text, std::uint64_t max_bytes, std::string_view field);
core::Digest read_digest(capnp::Data::Reader data, std::string_view field);
crypto::Signature read_signature(capnp::Data::Reader data);
double read_finite(double value, std::string_view field);
void check_count(std::uint64_t count, std::uint64_t max_count, std::string_view field);

inline capnp::Data::Reader as_data(core::ByteView bytes) { return {bytes.data(), bytes.size()}; }
/// @throws core::InvalidArgument  longer than a list or blob can be
unsigned as_list_size(std::size_t size);

}  // namespace drystone::wire
