#include "aggregation/layout.h"

#include <fstream>
#include <limits>
#include <string>

#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tensors/factor_set_io.h"
#include "tests/temporary_folder.h"

namespace drystone::aggregation {
namespace {

AdapterLayout sample() {
  return {.modules = {{"encoder.0.query", {.out = 384, .in = 384}}, {"é\n", {.out = 2, .in = 3}}},
          .dense = {{"classifier.bias", {20}}, {"scalar", {}}}};
}

TEST_CASE("layout: text and files come back equal; equal layouts give equal text") {
  const test::TemporaryFolder folder;
  CHECK(layout_from_json(to_json(sample())) == sample());
  CHECK(layout_from_json(to_json({})) == AdapterLayout{});
  write_layout(folder / "layout.json", sample());
  CHECK(read_layout(folder / "layout.json") == sample());
  CHECK(to_json(sample()) == to_json(layout_from_json(to_json(sample()))));
}

TEST_CASE("layout: the base's norms come back to the bit; older layouts have none") {
  AdapterLayout layout = sample();
  layout.norms = {{"encoder.0.query", 17.123456789012345}, {"classifier.bias", 0.0}};
  CHECK(layout_from_json(to_json(layout)) == layout);
  CHECK(to_json(sample()).find("norms") == std::string::npos);
  for (const char* norms :
       {"[]", R"({"m":-1.0})", R"({"m":"1"})", R"({"m":null})", R"({"other":1.0})"}) {
    CAPTURE(norms);
    const std::string text =
        std::string(R"({"modules":{"m":[1,2]},"dense":{},"norms":)") + norms + "}";
    CHECK_THROWS_AS(layout_from_json(text), core::InvalidArgument);
  }
}

TEST_CASE("layout: refuses what it would not write") {
  const test::TemporaryFolder folder;
  for (const char* text :
       {"", "[]", "{}", R"({"modules":{}})", R"({"modules":[],"dense":{}})",
        R"({"modules":{},"dense":{},"x":1})", R"({"modules":{"m":[1]},"dense":{}})",
        R"({"modules":{"m":[1,0]},"dense":{}})", R"({"modules":{"m":[1,-2]},"dense":{}})",
        R"({"modules":{"m":[1,1.5]},"dense":{}})", R"({"modules":{"m":"x"},"dense":{}})",
        R"({"modules":{"m":[1,18446744073709551615]},"dense":{}})"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(layout_from_json(text), core::InvalidArgument);
    std::ofstream(folder / "x") << text;
    CHECK_THROWS_WITH_AS(read_layout(folder / "x"), doctest::Contains("/x: "), core::IoError);
  }
  CHECK_THROWS_AS(read_layout(folder / "missing"), core::IoError);
  CHECK_THROWS_AS(write_layout("/proc/no/layout.json", {}), core::IoError);
}

TEST_CASE("max_payload_bytes: bounds every payload of the layout, and not by much") {
  AdapterLayout layout = sample();
  tensors::FactorSet factors;
  for (int layer = 0; layer < 50; ++layer) {
    layout.modules["layer." + std::to_string(layer)] = {.out = 384, .in = 384};
  }
  for (const int64_t rank : {1, 4, 64}) {
    for (const auto& [name, module] : layout.modules) {
      factors.modules[name] = {.b = at::zeros({module.out, rank}),
                               .a = at::zeros({rank, module.in})};
    }
    for (const auto& [name, shape] : layout.dense) factors.dense[name] = at::zeros(shape);
    const std::size_t actual = tensors::to_bytes(factors).size();
    const std::uint64_t bound = max_payload_bytes(layout, rank);
    CHECK(bound >= actual);
    for (auto& [name, pair] : factors.modules) pair.a.select(1, 0).fill_(2.0);  // selects
    CHECK(bound >= tensors::update_to_bytes(factors).size());
    CHECK(bound <= actual + 512 + 500 * 2 * layout.modules.size() + 400 * layout.dense.size());
  }
}

TEST_CASE("max_payload_bytes: refuses what no file can hold") {
  CHECK_THROWS_AS(max_payload_bytes(sample(), 0), core::InvalidArgument);
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  CHECK_THROWS_AS(max_payload_bytes(sample(), kHuge), core::InvalidArgument);
  CHECK_THROWS_AS(max_payload_bytes({.modules = {}, .dense = {{"d", {kHuge, kHuge}}}}, 1),
                  core::InvalidArgument);
}

}  // namespace
}  // namespace drystone::aggregation
