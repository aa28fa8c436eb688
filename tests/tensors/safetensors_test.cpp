#include "tensors/safetensors.h"

#include <chrono>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "core/seed.h"
#include "tensors/safetensors_writer.h"
#include "tests/temporary_folder.h"

namespace drystone::tensors {
namespace {

using core::Refusal;

const std::filesystem::path kFixtures =
    std::filesystem::path(DRYSTONE_SOURCE_DIR) / "tests/tensors/fixtures";

/// A file with the given JSON, unpadded, and `data_bytes` zeros.
core::Bytes file_of(const std::string& json, std::size_t data_bytes) {
  core::Bytes bytes(8 + json.size() + data_bytes);
  const std::uint64_t length = json.size();
  std::memcpy(bytes.data(), &length, 8);
  std::memcpy(bytes.data() + 8, json.data(), json.size());
  return bytes;
}

/// The refusal of a hostile header; a test failure when it is accepted.
Refusal refusal_of(const std::string& json, std::size_t data_bytes,
                   const SafetensorsLimits& limits = {}) {
  const auto header = parse_safetensors(file_of(json, data_bytes), limits);
  CAPTURE(json);
  REQUIRE_FALSE(header.has_value());
  return header.error().code;
}

std::string entry(const std::string& shape, const std::string& offsets,
                  const std::string& dtype = "F32") {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

core::Bytes small_file() {
  return to_safetensors({{"a", at::arange(6, at::kFloat).reshape({2, 3})},
                         {"b", at::arange(5, at::kByte)},
                         {"c", at::arange(2, at::kLong)}},
                        {{"format", "test"}});
}

TEST_CASE("SafetensorsFile: reads every dtype that Python's safetensors writes") {
  const SafetensorsFile file(kFixtures / "all_dtypes.safetensors");
  CHECK(file.header().metadata.at("format") == "pt");
  CHECK(file.header().tensors.size() == 12);
  const at::Tensor expected = at::arange(6, at::kDouble).reshape({2, 3}) * 2 + 1;
  const std::pair<const char*, at::ScalarType> dtypes[] = {
      {"f64", at::kDouble},    {"f32", at::kFloat}, {"f16", at::kHalf},
      {"bf16", at::kBFloat16}, {"i64", at::kLong},  {"i32", at::kInt},
      {"i16", at::kShort},     {"i8", at::kChar},   {"u8", at::kByte}};
  for (const auto& [name, dtype] : dtypes) {
    CAPTURE(name);
    const at::Tensor tensor = file.tensor(name);
    CHECK((tensor.scalar_type() == dtype));
    CHECK(tensor.is_contiguous());
    CHECK(at::equal(tensor.to(at::kDouble), expected));
  }
  CHECK(at::equal(file.tensor("bool"), at::arange(6).reshape({2, 3}).remainder(2) == 0));
  CHECK(file.tensor("scalar").item<float>() == 7.5F);
  CHECK(file.tensor("empty").sizes() == at::IntArrayRef{0, 4});
}

TEST_CASE("SafetensorsFile: an aligned tensor is a view that outlives the file object") {
  const test::TemporaryFolder folder;
  write_safetensors(folder / "x", {{"x", at::arange(1000, at::kFloat)}});
  at::Tensor tensor;
  {
    const SafetensorsFile file(folder / "x");
    tensor = file.tensor("x");
    const auto bytes = file.bytes();
    const auto* data = static_cast<const std::uint8_t*>(tensor.const_data_ptr());
    CHECK(data > bytes.data());
    CHECK(data < bytes.data() + bytes.size());
    file.forget_pages();
  }
  std::filesystem::remove(folder / "x");
  CHECK(at::equal(tensor, at::arange(1000, at::kFloat)));
}

TEST_CASE("SafetensorsFile: a misaligned tensor is copied, not misread") {
  const test::TemporaryFolder folder;
  {
    const core::Bytes bytes = small_file();  // "c" (int64) lies 29 bytes into the data
    std::ofstream(folder / "x", std::ios::binary) << core::as_text(bytes);
  }
  const SafetensorsFile file(folder / "x");
  CHECK(at::equal(file.tensor("c"), at::arange(2, at::kLong)));
}

TEST_CASE("SafetensorsFile: errors name the file and the tensor") {
  const test::TemporaryFolder folder;
  CHECK_THROWS_WITH_AS(SafetensorsFile(folder / "missing"), doctest::Contains("missing"),
                       core::IoError);
  CHECK_THROWS_AS(SafetensorsFile(folder.path()), core::IoError);
  std::ofstream(folder / "empty").flush();
  CHECK_THROWS_WITH_AS(SafetensorsFile(folder / "empty"), doctest::Contains("length prefix"),
                       core::IoError);
  write_safetensors(folder / "x", {{"x", at::arange(3, at::kFloat)}});
  CHECK_THROWS_WITH_AS(SafetensorsFile(folder / "x").tensor("y"), doctest::Contains(R"("y")"),
                       core::IoError);
  {
    const core::Bytes bytes = file_of(R"({"x":)" + entry("[1]", "[0,1]", "BOOL") + "}", 0);
    std::ofstream(folder / "bool", std::ios::binary) << core::as_text(bytes) << '\x02';
  }
  CHECK_THROWS_AS(SafetensorsFile(folder / "bool").tensor("x"), core::IoError);
}

TEST_CASE("parse_safetensors: a file cut at any byte is refused") {
  const core::Bytes whole = small_file();
  REQUIRE(parse_safetensors(whole).has_value());
  for (std::size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    CHECK_FALSE(parse_safetensors(core::ByteView(whole).first(length)).has_value());
  }
  core::Bytes longer = whole;
  longer.push_back(0);
  REQUIRE_FALSE(parse_safetensors(longer).has_value());
  CHECK(parse_safetensors(longer).error().code == Refusal::PayloadMismatch);
}

TEST_CASE("parse_safetensors: whatever a flipped byte does, ranges stay inside the file") {
  const core::Bytes whole = small_file();
  core::SplitMix64 random(1);
  for (int trial = 0; trial < 20'000; ++trial) {
    core::Bytes bytes = whole;
    for (std::uint64_t flips = 1 + random.below(3); flips > 0; --flips) {
      bytes[random.below(bytes.size())] = static_cast<std::uint8_t>(random.below(256));
    }
    const auto header = parse_safetensors(bytes);
    if (!header) continue;
    for (const auto& [name, info] : header->tensors) {
      const core::ByteView content = tensor_bytes(*header, info, bytes);
      REQUIRE(content.data() >= bytes.data());
      REQUIRE(content.data() + content.size() <= bytes.data() + bytes.size());
      REQUIRE(copy_tensor(info, content).nbytes() == content.size());
    }
  }
}

TEST_CASE("parse_safetensors: claims are refused before anything is allocated for them") {
  core::Bytes huge(1024);
  const std::uint64_t length = 10ULL << 30;
  std::memcpy(huge.data(), &length, 8);
  CHECK(parse_safetensors(huge).error().code == Refusal::TooLarge);
  const std::uint64_t beyond = 2000;
  std::memcpy(huge.data(), &beyond, 8);
  CHECK(parse_safetensors(huge).error().code == Refusal::PayloadMismatch);

  CHECK(refusal_of(R"({"x":)" + entry("[2684354560]", "[0,10737418240]") + "}", 64) ==
        Refusal::PayloadMismatch);
  CHECK(refusal_of(R"({"x":)" + entry("[4294967296,4294967296]", "[0,0]") + "}", 0) ==
        Refusal::TooLarge);
  CHECK(refusal_of(R"({"x":)" + entry("[4611686018427387904]", "[0,0]") + "}", 0) ==
        Refusal::TooLarge);
  CHECK(refusal_of(R"({"x":)" + entry("[4294967296,4294967296,0]", "[0,0]") + "}", 0) ==
        Refusal::TooLarge);
  CHECK(refusal_of(R"({"x":)" + entry("[9223372036854775808]", "[0,0]") + "}", 0) ==
        Refusal::MalformedFrame);
}

TEST_CASE("parse_safetensors: holes, overlaps and wrong sizes are refused") {
  const auto two = [](const std::string& first, const std::string& second) {
    return R"({"x":)" + first + R"(,"y":)" + second + "}";
  };
  CHECK(
      parse_safetensors(file_of(two(entry("[1]", "[0,4]"), entry("[1]", "[4,8]")), 8)).has_value());
  CHECK(
      parse_safetensors(file_of(two(entry("[1]", "[4,8]"), entry("[1]", "[0,4]")), 8)).has_value());
  CHECK(parse_safetensors(file_of("{}", 0)).has_value());
  for (const auto& [first, second] :
       {std::pair("[0,4]", "[0,4]"), std::pair("[0,4]", "[2,6]"), std::pair("[0,4]", "[5,9]"),
        std::pair("[1,5]", "[5,9]"), std::pair("[4,0]", "[4,8]")}) {
    CHECK(refusal_of(two(entry("[1]", first), entry("[1]", second)), 8) == Refusal::MalformedFrame);
  }
  CHECK(refusal_of(R"({"x":)" + entry("[2]", "[0,4]") + "}", 4) == Refusal::MalformedFrame);
  CHECK(refusal_of(R"({"x":)" + entry("[1]", "[0,4]") + "}", 5) == Refusal::PayloadMismatch);
}

TEST_CASE("parse_safetensors: malformed headers are refused") {
  const std::string good = entry("[1]", "[0,4]");
  const std::string bad[] = {
      "",
      "[]",
      " {}",
      "\xEF\xBB\xBF{}",
      "{",
      "{}{}",
      "{\"x\":" + good,
      "{\"x\":" + good + ",}",
      "{\"x\":" + good + ",\"x\":" + good + "}",
      "{\"\":" + good + "}",
      "{\"x\":1}",
      "{\"x\":\"F32\"}",
      "{\"x\":[" + good + "]}",
      "{\"x\":{\"y\":" + good + "}}",
      "{\"x\":" + entry("[[1]]", "[0,4]") + "}",
      "{\"x\":" + entry("[-1]", "[0,4]") + "}",
      "{\"x\":" + entry("[1.0]", "[0,4]") + "}",
      "{\"x\":" + entry("[true]", "[0,4]") + "}",
      "{\"x\":" + entry("[null]", "[0,4]") + "}",
      "{\"x\":" + entry("[99999999999999999999]", "[0,4]") + "}",
      "{\"x\":" + entry("1", "[0,4]") + "}",
      "{\"x\":" + entry("[1]", "[0]") + "}",
      "{\"x\":" + entry("[1]", "[0,4,4]") + "}",
      "{\"x\":" + entry("[1]", "[0,4]", "F4") + "}",
      "{\"x\":" + entry("[1]", "[0,4]", "f32") + "}",
      R"({"x":{"dtype":"F32","shape":[1]}})",
      R"({"x":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
      R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":"F32"}})",
      R"({"__metadata__":{"a":1},"x":)" + good + "}",
      R"({"__metadata__":{"a":"1","a":"2"},"x":)" + good + "}",
      R"({"__metadata__":{"a":{}},"x":)" + good + "}",
      R"({"__metadata__":{},"__metadata__":{},"x":)" + good + "}",
      R"({"__metadata__":"a","x":)" + good + "}",
      "{\"\xff\":" + good + "}",
  };
  for (const std::string& json : bad) CHECK(refusal_of(json, 4) == Refusal::MalformedFrame);
  CHECK(
      parse_safetensors(file_of(R"({"__metadata__":{"":"v"},"x":)" + good + "}  ", 4)).has_value());
}

TEST_CASE("parse_safetensors: depth and counts are bounded") {
  CHECK(refusal_of(std::string(1'000'000, '{'), 0) == Refusal::MalformedFrame);
  CHECK(refusal_of("{\"x\":{\"shape\":" + std::string(1'000'000, '['), 0) ==
        Refusal::MalformedFrame);
  CHECK(refusal_of(R"({"x":)" + entry("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,4]") + "}", 4) ==
        Refusal::TooLarge);
  const std::string two =
      R"({"x":)" + entry("[0]", "[0,0]") + R"(,"y":)" + entry("[0]", "[0,0]") + "}";
  CHECK(parse_safetensors(file_of(two, 0)).has_value());
  CHECK(refusal_of(two, 0, {.max_tensors = 1}) == Refusal::TooLarge);
  CHECK(refusal_of(two, 0, {.max_header_bytes = 10}) == Refusal::TooLarge);
}

TEST_CASE("parse_safetensors: half a million names cost no more than reading them") {
  std::string json = "{";
  constexpr int kCount = 500'000;
  for (int i = 0; i < kCount; ++i) {
    json +=
        (i == 0 ? "\"t" : ",\"t") + std::to_string(i * 7 % kCount) + "\":" + entry("[0]", "[0,0]");
  }
  const auto begin = std::chrono::steady_clock::now();
  const auto header = parse_safetensors(file_of(json + "}", 0));
  REQUIRE(header.has_value());
  CHECK(header->tensors.size() == kCount);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(30));  // about one alone
}

TEST_CASE("parse_safetensors: a refusal is one short line whatever the names") {
  const std::string name = "\\u001b[2J\\n" + std::string(100'000, 'x');
  for (const std::string& value : {entry("[1]", "[4,8]"), entry("[1]", "[0,9]"), std::string("{}"),
                                   entry("[1]", "[0,4]", "F8")}) {
    const auto header = parse_safetensors(file_of("{\"" + name + "\":" + value + "}", 4));
    REQUIRE_FALSE(header.has_value());
    CHECK(header.error().detail.size() < 400);
    CHECK(header.error().detail.find_first_of("\n\x1b") == std::string::npos);
  }
}

}  // namespace
}  // namespace drystone::tensors
