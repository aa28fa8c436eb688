// Bytes from nowhere: whatever arrives, decode refuses it or returns a valid message, and spends no
// more memory than a small multiple of what arrived.

#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/wire/allocation_meter.h"
#include "tests/wire/mutations.h"
#include "tests/wire/samples.h"
#include "wire/limits.h"
#include "wire/messages.h"

using namespace drystone;
using core::Bytes;
using core::Refusal;
using test::AllocationMeter;

namespace {

/// A std::string or a Signed is larger than the pointers that it stands for; complaints cost a
/// little.
std::uint64_t allowed_bytes(std::size_t frame) { return 8 * frame + 65'536; }

/// Decodes as an envelope and, when that works, checks that the message is one that can be sent.
bool is_envelope(Bytes header) {
  const std::size_t size = header.size();
  const AllocationMeter meter;
  const auto message = wire::decode({.header = std::move(header), .data = {}});
  CHECK(meter.num_bytes() <= allowed_bytes(size));
  if (!message) {
    CHECK_FALSE(message.error().detail.empty());
    return false;
  }
  CHECK(wire::decode(wire::encode(*message)).has_value());
  return true;
}

/// As above for one kind of signed bytes, which must also be the canonical encoding of what they
/// say.
template <auto kDecode>
bool is_signed(const Bytes& bytes) {
  const AllocationMeter meter;
  const auto value = kDecode(bytes);
  CHECK(meter.num_bytes() <= 4 * allowed_bytes(bytes.size()));  // encodes once more to compare
  if (!value) {
    CHECK_FALSE(value.error().detail.empty());
    return false;
  }
  CHECK(wire::encode(*value) == bytes);
  return true;
}

using Decoder = std::function<bool(const Bytes&)>;

/// In the order of test::sample_encodings.
const std::vector<Decoder>& signed_decoders() {
  static const std::vector<Decoder> decoders = {
      is_signed<wire::decode_plan>, is_signed<wire::decode_update>, is_signed<wire::decode_version>,
      is_signed<wire::decode_evaluation>, is_signed<wire::decode_roster_change>};
  return decoders;
}

/// Every well-formed input with the decoder that it is for. Chunks are left out: they need data.
std::vector<std::pair<Decoder, Bytes>> samples(std::uint64_t seed) {
  std::vector<std::pair<Decoder, Bytes>> result;
  for (wire::Message& message : test::sample_messages(seed)) {
    if (std::holds_alternative<wire::Chunk>(message)) continue;
    result.emplace_back(is_envelope, wire::encode(std::move(message)).header);
  }
  const auto encodings = test::sample_encodings(seed);
  for (std::size_t i = 0; i < encodings.size(); ++i) {
    result.emplace_back(signed_decoders()[i], encodings[i]);
  }
  return result;
}

}  // namespace

TEST_CASE("decode: the samples are valid, and every truncation of signed bytes is refused") {
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    for (const auto& [decoder, bytes] : samples(seed)) {
      CHECK(decoder(bytes));
      for (std::size_t size = 0; size < bytes.size(); ++size) {
        decoder(Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)));
      }
    }
    const auto encodings = test::sample_encodings(seed);
    for (std::size_t i = 0; i < encodings.size(); ++i) {
      for (std::size_t size = 0; size < encodings[i].size(); ++size) {
        CHECK_FALSE(signed_decoders()[i](
            Bytes(encodings[i].begin(), encodings[i].begin() + static_cast<std::ptrdiff_t>(size))));
      }
    }
  }
}

TEST_CASE("decode: every single bit flip is refused or changes the message") {
  for (const auto& [decoder, bytes] : samples(3)) {
    for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      Bytes flipped = bytes;
      flipped[bit / 8] ^= static_cast<std::uint8_t>(1U << (bit % 8));
      decoder(flipped);
    }
  }
}

TEST_CASE("decode: signed bytes have no second form") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const auto encodings = test::sample_encodings(seed);
    for (std::size_t i = 0; i < encodings.size(); ++i) {
      Bytes padded = encodings[i];
      padded.resize(padded.size() + 8, 0);
      CHECK_FALSE(signed_decoders()[i](padded));
      for (std::size_t other = 0; other < encodings.size(); ++other) {
        if (other != i) CHECK_FALSE(signed_decoders()[other](encodings[i]));
      }
    }
  }
}

TEST_CASE("decode: thousands of seeded mutations") {
  core::SplitMix64 random(2024);
  std::uint64_t num_valid = 0;
  std::uint64_t num_tried = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    for (const auto& [decoder, bytes] : samples(seed)) {
      for (int i = 0; i < 5; ++i, ++num_tried) num_valid += decoder(test::mutate(bytes, random));
    }
  }
  MESSAGE(num_valid << " of " << num_tried << " mutations were still messages");
  CHECK(num_valid < num_tried);
}

TEST_CASE("decode: random bytes of every length") {
  core::SplitMix64 random(7);
  for (std::size_t size = 0; size < 400; ++size) {
    const Bytes bytes = test::sample_bytes(random, size);
    is_envelope(bytes);
    for (const Decoder& decoder : signed_decoders()) CHECK_FALSE(decoder(bytes));
  }
  for (const std::uint8_t fill : core::from_hex("00017fff")) {
    for (const std::size_t size : {8U, 16U, 1024U}) {
      CHECK_FALSE(is_envelope(Bytes(size, fill)));
    }
  }
}

TEST_CASE("decode: a claim of gigabytes in a small frame costs nothing, wherever it stands") {
  constexpr std::uint64_t kMostElements = (1ULL << 29) - 1;  // of 8 bytes: 4 GB a list
  for (const auto& [decoder, bytes] : samples(9)) {
    for (std::size_t word = 0; word < bytes.size() / 8; ++word) {
      for (std::uint64_t element = 0; element < 8; ++element) {
        for (const std::int32_t offset : {0, 1, -1, -static_cast<std::int32_t>(word)}) {
          Bytes hostile = bytes;
          hostile.resize(1024, 0);
          test::set_word(hostile, word, test::list_pointer(offset, element, kMostElements));
          decoder(hostile);
        }
      }
    }
  }
}

TEST_CASE("decode: oversized frames are refused before they are looked at") {
  const AllocationMeter meter;
  const Bytes header(wire::kMaxHeaderBytes + 8, 0);
  const Bytes data(wire::kMaxChunkBytes + 1, 0);
  const Bytes chunk = wire::encode(wire::Chunk{{}, 0, Bytes(1)}).header;
  const std::uint64_t before = meter.num_bytes();
  CHECK(wire::decode_plan(header).error().code == Refusal::TooLarge);
  CHECK(wire::decode_update(header).error().code == Refusal::TooLarge);
  CHECK(meter.num_bytes() - before < 4096);
  CHECK(wire::decode({.header = header, .data = {}}).error().code == Refusal::TooLarge);
  CHECK(wire::decode({.header = chunk, .data = data}).error().code == Refusal::TooLarge);
  CHECK(wire::decode({.header = chunk, .data = {}}).error().code == Refusal::MalformedFrame);
  CHECK(
      wire::decode({.header = wire::encode(wire::Done{}).header, .data = Bytes(1)}).error().code ==
      Refusal::MalformedFrame);
}

TEST_CASE("decode: a thousand pointers to one blob do not make a thousand copies") {
  wire::Catalog catalog;
  catalog.versions.resize(wire::kMaxCatalog);
  catalog.versions.back().bytes.assign(400'000, 0x5a);
  Bytes header = wire::encode(catalog).header;
  REQUIRE(is_envelope(header));
  // Root pointer, Envelope (1 data word, 1 pointer), Catalog (1 pointer), the list's tag, then two
  // pointers an entry.
  constexpr std::size_t kFirstEntry = 5;
  const auto slot_of = [](std::size_t entry) { return kFirstEntry + 2 * entry; };
  const std::size_t last = slot_of(wire::kMaxCatalog - 1);
  const std::uint64_t pointer = test::word_at(header, last);
  REQUIRE((pointer & 3) == 1);
  REQUIRE((pointer >> 35) == 400'000);
  const std::size_t target = last + 1 + ((pointer & 0xffffffffU) >> 2);
  for (std::size_t entry = 0; entry + 1 < wire::kMaxCatalog; ++entry) {
    const auto offset = static_cast<std::int32_t>(target - slot_of(entry) - 1);
    test::set_word(header, slot_of(entry), test::list_pointer(offset, 2, 400'000));
  }
  CHECK_FALSE(is_envelope(header));
}

TEST_CASE("decode: details of a refusal are short and printable, whatever caused it") {
  core::SplitMix64 random(77);
  for (int i = 0; i < 3000; ++i) {
    wire::Hello hello;
    hello.software = "x";
    const auto message =
        wire::decode({.header = test::mutate(wire::encode(hello).header, random), .data = {}});
    if (message) continue;
    CHECK(message.error().detail.size() <= 300);
    for (const char c : message.error().detail) CHECK((c >= 0x20 && c < 0x7f));
  }
}
