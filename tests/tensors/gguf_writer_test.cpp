#include "tensors/gguf_writer.h"

#include <cstring>
#include <string>

#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "core/files.h"
#include "tests/temporary_folder.h"

using namespace drystone;

namespace {

template <typename Number>
Number at_offset(const std::string& bytes, std::size_t offset) {
  Number number;
  REQUIRE(offset + sizeof(number) <= bytes.size());
  std::memcpy(&number, bytes.data() + offset, sizeof(number));
  return number;
}

}  // namespace

TEST_CASE("write_gguf: header, metadata, reversed shapes and aligned data, byte for byte") {
  const test::TemporaryFolder folder;
  const auto file = folder.path() / "adapter.gguf";
  tensors::write_gguf(file,
                      {.metadata = {{"a", 1.5F}, {"b", std::string("xy")}, {"c", 7U}},
                       .tensors = {{"m", at::arange(6).reshape({2, 3})}, {"n", at::ones({1})}}});
  const std::string bytes = core::read_text_file(file, 1 << 20);
  CHECK(bytes.substr(0, 4) == "GGUF");
  CHECK(at_offset<std::uint32_t>(bytes, 4) == 3);
  CHECK(at_offset<std::uint64_t>(bytes, 8) == 2);
  CHECK(at_offset<std::uint64_t>(bytes, 16) == 3);
  std::size_t at = 24;
  CHECK(bytes.substr(at + 8, 1) == "a");
  CHECK(at_offset<std::uint32_t>(bytes, at + 9) == 6);
  CHECK(at_offset<float>(bytes, at + 13) == 1.5F);
  at += 17;
  CHECK(at_offset<std::uint32_t>(bytes, at + 9) == 8);
  CHECK(at_offset<std::uint64_t>(bytes, at + 13) == 2);
  CHECK(bytes.substr(at + 21, 2) == "xy");
  at += 23;
  CHECK(at_offset<std::uint32_t>(bytes, at + 9) == 4);
  CHECK(at_offset<std::uint32_t>(bytes, at + 13) == 7);
  at += 17;
  CHECK(bytes.substr(at + 8, 1) == "m");
  CHECK(at_offset<std::uint32_t>(bytes, at + 9) == 2);
  CHECK(at_offset<std::uint64_t>(bytes, at + 13) == 3);  // the innermost dimension first
  CHECK(at_offset<std::uint64_t>(bytes, at + 21) == 2);
  CHECK(at_offset<std::uint32_t>(bytes, at + 29) == 0);
  CHECK(at_offset<std::uint64_t>(bytes, at + 33) == 0);
  at += 41;
  CHECK(at_offset<std::uint64_t>(bytes, at + 8 + 1 + 4 + 8 + 4) == 32);  // n's offset
  at += 8 + 1 + 4 + 8 + 4 + 8;
  const std::size_t data = (at + 31) / 32 * 32;
  CHECK(bytes.size() == data + 64);
  CHECK(at_offset<float>(bytes, data + 20) == 5.0F);
  CHECK(at_offset<float>(bytes, data + 32) == 1.0F);
}

TEST_CASE("write_gguf: two tensors of one name are refused") {
  const test::TemporaryFolder folder;
  CHECK_THROWS_AS(tensors::write_gguf(
                      folder.path() / "x.gguf",
                      {.metadata = {}, .tensors = {{"m", at::ones({1})}, {"m", at::ones({1})}}}),
                  core::InvalidArgument);
  CHECK_FALSE(std::filesystem::exists(folder.path() / "x.gguf"));
}
