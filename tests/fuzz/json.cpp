// Fuzz target: JSON. What nlohmann's own parser takes is the same value here, or refused by a rule.

#include "core/json.h"

#include <cstdlib>
#include <string_view>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tests/fuzz/fuzz_target.h"

using namespace drystone;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = core::as_text({data, size});
  const auto plain = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  try {
    const auto value = core::parse_json(text, "f");
    if (!plain.is_discarded() && value != plain) std::abort();
    if (nlohmann::json(core::parse_ordered_json(text, "f")) != value) std::abort();
  } catch (const core::ConfigError& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
  }
  return 0;
}

namespace drystone::test {

std::vector<core::Bytes> seed_inputs(std::uint64_t seed) {
  static constexpr std::string_view kTexts[] = {
      R"({"a": [1, -2.5e3, "é\n\u00e9", null, true], "": {"b": {}, "c": []}})",
      R"([[[[[[[[{"k": NaN, "l": -Infinity, "m": "NaN"}]]]]]]]])", R"({"a": 1, "a": 2})",
      "[18446744073709551615, 1e308, \"\\\\\\\"\"]"};
  const std::string_view text = kTexts[seed % std::size(kTexts)];
  return {core::Bytes(text.begin(), text.end())};
}

}  // namespace drystone::test
