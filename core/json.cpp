#include "core/json.h"

#include <algorithm>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/shorten.h"
#include "core/text.h"

namespace drystone::core {
namespace {

/// Makes the value from the parser's events, as nlohmann's own does, within the limits.
template <typename Json>
class Builder {
 public:
  using number_integer_t = typename Json::number_integer_t;
  using number_unsigned_t = typename Json::number_unsigned_t;
  using number_float_t = typename Json::number_float_t;
  using string_t = typename Json::string_t;
  using binary_t = typename Json::binary_t;

  explicit Builder(const JsonLimits& limits) : limits_(limits) {}

  Json take() { return std::move(root_); }
  /// Why parsing ended early; empty where the text is not JSON.
  const std::string& problem() const { return problem_; }
  std::size_t error_at() const { return error_at_; }

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(number_integer_t value) { return add(value); }
  bool number_unsigned(number_unsigned_t value) { return add(value); }
  bool number_float(number_float_t value, const string_t&) { return add(value); }
  bool string(string_t& value) { return add(std::move(value)); }
  bool binary(binary_t&) { return false; }  // not from text

  bool start_object(std::size_t) { return open(Json::value_t::object); }
  bool start_array(std::size_t) { return open(Json::value_t::array); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(string_t& name) {
    auto& object = open_.back()->template get_ref<typename Json::object_t&>();
    if constexpr (std::is_same_v<Json, nlohmann::ordered_json>) {
      // Its own emplace searches all keys before.
      if (!keys_.back().insert(name).second) return refuse_twice(name);
      object.emplace_back(name, nullptr);
      member_ = &object.back().second;
    } else {
      const auto [place, is_new] = object.emplace(std::move(name), nullptr);
      if (!is_new) return refuse_twice(place->first);
      member_ = &place->second;
    }
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) {
    error_at_ = position;
    return false;
  }

 private:
  bool refuse(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }
  bool refuse_twice(const std::string& name) {
    return refuse("key " + shorten(quote(name), 100) + " stands twice in one object");
  }

  template <typename Value>
  Json* place(Value&& value) {
    if (open_.empty()) {
      root_ = Json(std::forward<Value>(value));
      return &root_;
    }
    if (open_.back()->is_array()) {
      auto& array = open_.back()->template get_ref<typename Json::array_t&>();
      array.emplace_back(std::forward<Value>(value));
      return &array.back();
    }
    *member_ = Json(std::forward<Value>(value));
    return member_;
  }

  template <typename Value>
  bool add(Value&& value) {
    if (++num_values_ > limits_.max_values) {
      return refuse("holds more than " + std::to_string(limits_.max_values) + " values");
    }
    place(std::forward<Value>(value));
    return true;
  }

  bool open(typename Json::value_t kind) {
    if (open_.size() == limits_.max_depth) {
      return refuse("nested deeper than " + std::to_string(limits_.max_depth) + " levels");
    }
    if (++num_values_ > limits_.max_values) {
      return refuse("holds more than " + std::to_string(limits_.max_values) + " values");
    }
    open_.push_back(place(kind));
    keys_.emplace_back();
    return true;
  }

  bool close() {
    open_.pop_back();
    keys_.pop_back();
    return true;
  }

  const JsonLimits& limits_;
  Json root_;
  std::vector<Json*> open_;  ///< from the outermost inwards: none grows while one inside it is open
  std::vector<std::unordered_set<std::string>> keys_;  ///< of open_, where the order is kept
  Json* member_ = nullptr;                             ///< of the innermost object, to be filled
  std::size_t num_values_ = 0;
  std::string problem_;
  std::size_t error_at_ = 0;
};

/// `text` with NaN, Infinity and -Infinity outside strings made what JSON knows.
std::string without_non_finite(std::string_view text, NonFinite way) {
  constexpr std::string_view kWords[] = {"NaN", "-Infinity", "Infinity"};
  std::string clean;
  clean.reserve(text.size());
  bool in_string = false;
  for (std::size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    const auto* const word =
        std::ranges::find_if(kWords, [&](std::string_view one) { return rest.starts_with(one); });
    if (!in_string && word != std::end(kWords)) {
      clean += way == NonFinite::Null ? "null" : quote(*word);
      at += word->size();
      continue;
    }
    if (in_string && rest[0] == '\\' && rest.size() > 1)
      clean += text[at++];  // an escaped quote
    else if (rest[0] == '"')
      in_string = !in_string;
    clean += text[at++];
  }
  return clean;
}

bool has_non_finite(std::string_view text) {
  return text.find("NaN") != std::string_view::npos ||
         text.find("Infinity") != std::string_view::npos;
}

/// ", line L" for a text of several lines, and the byte within its line.
std::string position_in(std::string_view text, std::size_t at) {
  const std::string_view before = text.substr(0, std::min(at, text.size()));
  const auto lines = static_cast<std::size_t>(std::ranges::count(before, '\n'));
  const std::size_t begin = before.rfind('\n');
  const std::size_t column = before.size() - (begin == std::string_view::npos ? 0 : begin + 1);
  return (lines > 0 ? "line " + std::to_string(lines + 1) + ", byte " : "byte ") +
         std::to_string(column);
}

template <typename Json>
Json parse(std::string_view text, const std::string& where, const JsonLimits& limits) {
  const auto refuse = [&](const std::string& problem) {
    throw ConfigError(where + ": " + problem + "; " + std::string(limits.remedy));
  };
  if (text.size() > limits.max_bytes) {
    refuse("holds " + format_bytes(text.size()) + " of JSON, more than the limit of " +
           format_bytes(limits.max_bytes));
  }
  Builder<Json> strict(limits);
  if (Json::sax_parse(text.begin(), text.end(), &strict)) return strict.take();
  if (!strict.problem().empty()) refuse(strict.problem());
  if (has_non_finite(text)) {
    const std::string clean = without_non_finite(text, limits.non_finite);
    Builder<Json> lenient(limits);
    if (Json::sax_parse(clean.begin(), clean.end(), &lenient)) return lenient.take();
    if (!lenient.problem().empty()) refuse(lenient.problem());
  }
  refuse("not valid JSON at " + position_in(text, strict.error_at()));
  return {};
}

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& where,
                          const JsonLimits& limits) {
  return parse<nlohmann::json>(text, where, limits);
}

nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& where,
                                          const JsonLimits& limits) {
  return parse<nlohmann::ordered_json>(text, where, limits);
}

nlohmann::json read_json(const std::filesystem::path& file, const JsonLimits& limits) {
  return parse_json(read_text_file(file, limits.max_bytes), file.string(), limits);
}

nlohmann::ordered_json read_ordered_json(const std::filesystem::path& file,
                                         const JsonLimits& limits) {
  return parse_ordered_json(read_text_file(file, limits.max_bytes), file.string(), limits);
}

}  // namespace drystone::core
