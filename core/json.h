#pragma once
// The one way from text to JSON: files of models, adapters and runs, and lines of data. Whatever
// the bytes are, it ends in a value within bounds or in one line. Light: sources that look into a
// value include <nlohmann/json.hpp> themselves.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace drystone::core {

/// What becomes of NaN and ±Infinity, which Python writes and JSON does not know.
enum class NonFinite : std::uint8_t {
  Text,  ///< the string "NaN": whoever wants a number there says so, others need not care
  Null,  ///< a missing value, as tables have them
};

struct JsonLimits {
  std::uint64_t max_bytes = std::uint64_t{1} << 24;
  std::size_t max_depth = 64;  ///< of arrays and objects: others walk the value by recursion
  std::size_t max_values = std::size_t{1} << 23;  ///< small ones take 20 times their text's bytes
  NonFinite non_finite = NonFinite::Text;
  std::string_view remedy = "fetch the file again";
};

/// Parses one JSON value. Beyond JSON's grammar, a key that stands twice in an object is refused.
/// @param where  of the text: the file's path, or FILE:LINE
/// @throws core::ConfigError  `WHERE: what is wrong; REMEDY`: not JSON, or beyond the limits
nlohmann::json parse_json(std::string_view text, const std::string& where,
                          const JsonLimits& limits = {});
/// The same with the keys in their order in the text. Look-ups take linear time.
nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& where,
                                          const JsonLimits& limits = {});

/// @throws core::IoError  not a readable regular file, or too long  @throws as parse_json
nlohmann::json read_json(const std::filesystem::path& file, const JsonLimits& limits = {});
nlohmann::ordered_json read_ordered_json(const std::filesystem::path& file,
                                         const JsonLimits& limits = {});

}  // namespace drystone::core
