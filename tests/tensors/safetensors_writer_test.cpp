#include "tensors/safetensors_writer.h"

#include <string>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/temporary_folder.h"

namespace drystone::tensors {
namespace {

const std::filesystem::path kFixtures =
    std::filesystem::path(DRYSTONE_SOURCE_DIR) / "tests/tensors/fixtures";

std::string content(const std::filesystem::path& file) {
  return std::string(core::as_text(core::MappedFile(file).bytes()));
}

std::map<std::string, at::Tensor> fixture_tensors() {
  const at::Tensor count = at::arange(6, at::kFloat).reshape({2, 3});
  return {{"b", count / 8}, {"a", -count}, {"é \"quoted\"", at::ones({1})}};
}

TEST_CASE("write_safetensors: byte for byte what Python's safetensors writes") {
  const test::TemporaryFolder folder;
  write_safetensors(folder / "x", fixture_tensors(), {{"format", "drystone"}});
  CHECK(content(folder / "x") == content(kFixtures / "float32.safetensors"));
}

TEST_CASE("SafetensorsWriter: streaming, at once and in memory give the same bytes") {
  const test::TemporaryFolder folder;
  const auto tensors = fixture_tensors();
  write_safetensors(folder / "at_once", tensors);
  {
    SafetensorsWriter writer(folder / "streamed");
    for (const auto& [name, tensor] : tensors) writer.add(name, tensor);
    CHECK_FALSE(std::filesystem::exists(folder / "streamed"));
    writer.finish();
  }
  CHECK(content(folder / "streamed") == content(folder / "at_once"));
  CHECK_FALSE(std::filesystem::exists(folder / "streamed.data"));
  const core::Bytes bytes = to_safetensors({tensors.begin(), tensors.end()});
  CHECK(core::as_text(bytes) == content(folder / "at_once"));
}

TEST_CASE("SafetensorsWriter: every dtype, strides, empties and scalars come back equal") {
  const test::TemporaryFolder folder;
  std::map<std::string, at::Tensor> tensors;
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong,
                                     at::kInt, at::kShort, at::kChar, at::kByte, at::kBool}) {
    tensors[c10::toString(dtype)] = at::arange(15).reshape({3, 5}).to(dtype);
  }
  tensors["transposed"] = at::arange(15, at::kFloat).reshape({3, 5}).t();
  tensors["empty"] = at::zeros({0, 3});
  tensors["scalar"] = at::zeros({});
  write_safetensors(folder / "x", tensors);
  const SafetensorsFile file(folder / "x");
  CHECK(file.header().data_offset % 8 == 0);
  REQUIRE(file.header().tensors.size() == tensors.size());
  for (const auto& [name, tensor] : tensors) {
    CAPTURE(name);
    CHECK((file.tensor(name).scalar_type() == tensor.scalar_type()));
    CHECK(at::equal(file.tensor(name), tensor));
  }
}

TEST_CASE("SafetensorsWriter: without finish nothing stands under the name") {
  const test::TemporaryFolder folder;
  {
    SafetensorsWriter writer(folder / "x");
    writer.add("a", at::zeros({3}));
  }
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("SafetensorsWriter: refuses names twice, reserved or not UTF-8, and other dtypes") {
  const test::TemporaryFolder folder;
  SafetensorsWriter writer(folder / "x");
  writer.add("a", at::zeros({3}));
  CHECK_THROWS_AS(writer.add("a", at::zeros({3})), core::InvalidArgument);
  CHECK_THROWS_AS(writer.add("", at::zeros({3})), core::InvalidArgument);
  CHECK_THROWS_AS(writer.add("__metadata__", at::zeros({3})), core::InvalidArgument);
  CHECK_THROWS_AS(writer.add("c", at::zeros({3}, at::kComplexFloat)), core::InvalidArgument);
  CHECK_THROWS_AS(to_safetensors({{"\xff", at::zeros({3})}}), core::InvalidArgument);
  CHECK_THROWS_AS(SafetensorsWriter(folder / "no/such/folder"), core::IoError);
}

}  // namespace
}  // namespace drystone::tensors
