#include "data/choice_record.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>
#include <optional>
#include <string_view>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json_object.h"
#include "core/text.h"
#include "data/json_records.h"

namespace drystone::data {

using Json = nlohmann::ordered_json;

namespace {

/// A record before its answer was looked up among the choices.
struct Written {
  ChoiceRecord record;
  std::vector<std::string> labels;  ///< of the choices, where the file gives them
  Json answer;
};

[[noreturn]] void fail(const Place& where, const std::string& problem) {
  throw core::ConfigError(where.str() + ": " + problem);
}

/// The value under `chosen`, else under the first of the usual names.
const Json& field(const Json& object, const std::string& chosen,
                  std::initializer_list<const char*> usual, const Place& where) {
  if (!chosen.empty()) {
    if (const auto found = object.find(chosen); found != object.end()) return *found;
    fail(where, "no JSON object with " + core::quote(chosen));
  }
  for (const char* const name : usual) {
    if (const auto found = object.find(name); found != object.end()) return *found;
  }
  fail(where, "no JSON object with " +
                  core::join(std::vector<std::string>(usual.begin(), usual.end()), " or ") +
                  "; name the field by --question-field, --choices-field or --answer-field");
}

std::optional<std::string> scalar_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_number() ? std::optional(value.dump()) : std::nullopt;
}

bool append_texts(const Json& list, std::vector<std::string>& texts) {
  if (!list.is_array()) return false;
  for (const Json& entry : list) {
    const auto text = scalar_text(entry);
    if (!text) return false;
    texts.push_back(*text);
  }
  return true;
}

bool append_labelled(const Json& list, Written& written) {
  if (!list.is_array()) return false;
  for (const Json& entry : list) {
    if (!entry.is_object() || !entry.contains("text") || !entry.contains("label")) return false;
    const auto text = scalar_text(entry.at("text"));
    const auto label = scalar_text(entry.at("label"));
    if (!text || !label) return false;
    written.record.choices.push_back(*text);
    written.labels.push_back(*label);
  }
  return true;
}

bool append_by_label(const Json& object, Written& written) {
  for (const auto& [label, value] : object.items()) {
    const auto text = scalar_text(value);
    if (!text) return false;
    written.record.choices.push_back(*text);
    written.labels.push_back(label);
  }
  return true;
}

void read_choices(const Json& value, Written& written) {
  bool is_read = false;
  if (value.is_object() && value.contains("text") && value.contains("label")) {
    is_read = append_texts(value.at("text"), written.record.choices) &&
              append_texts(value.at("label"), written.labels);
  } else if (value.is_object()) {
    is_read = append_by_label(value, written);
  } else if (value.is_array() && !value.empty() && value.front().is_object()) {
    is_read = append_labelled(value, written);
  } else {
    is_read = append_texts(value, written.record.choices);
  }
  const std::size_t count = written.record.choices.size();
  if (!is_read || count < 2 || count > 26 ||
      (!written.labels.empty() && written.labels.size() != count)) {
    fail(written.record.where, "needs a question and 2 to 26 choices: texts, or texts with labels");
  }
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos;
       at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

/// What the LM evaluation harness makes of HellaSwag's texts.
std::string without_marks(std::string text) {
  constexpr const char* kSpace = " \t\r\n\v\f";
  text.erase(0, std::min(text.find_first_not_of(kSpace), text.size()));
  text.erase(text.find_last_not_of(kSpace) + 1);
  replace_all(text, " [title]", ". ");
  for (std::size_t open = text.find('['); open != std::string::npos; open = text.find('[', open)) {
    const std::size_t close = text.find_first_of("]\n", open);
    if (close == std::string::npos) break;
    if (text[close] == '\n') {
      open = close;
    } else {
      text.erase(open, close - open + 1);
    }
  }
  replace_all(text, "  ", " ");
  return text;
}

/// Python's str.capitalize, of ASCII.
std::string capitalized(std::string text) {
  const auto is_between = [](char c, char first, char last) { return c >= first && c <= last; };
  for (std::size_t i = 0; i < text.size(); ++i) {
    char& c = text[i];
    if (i > 0 && is_between(c, 'A', 'Z')) c = static_cast<char>(c - 'A' + 'a');
    if (i == 0 && is_between(c, 'a', 'z')) c = static_cast<char>(c - 'a' + 'A');
  }
  return text;
}

void read_hellaswag(const Json& object, Written& written) {
  const std::array<const char*, 3> parts = {"activity_label", "ctx_a", "ctx_b"};
  const bool is_whole = std::ranges::all_of(parts, [&](const char* name) {
    const auto part = object.find(name);
    return part != object.end() && part->is_string();
  });
  written.record.is_beginning = true;
  if (!is_whole) return;
  written.record.question = without_marks(object.at("activity_label").get<std::string>() + ": " +
                                          object.at("ctx_a").get<std::string>() + " " +
                                          capitalized(object.at("ctx_b").get<std::string>()));
  for (std::string& choice : written.record.choices) choice = without_marks(std::move(choice));
}

/// The choice that an answer names as a text (or label), as a letter and as a number.
using Reading = std::array<std::optional<std::size_t>, 3>;

std::optional<std::size_t> position_of(const std::vector<std::string>& words,
                                       const std::string& word) {
  const auto found = std::ranges::find(words, word);
  return found == words.end() ? std::nullopt : std::optional<std::size_t>(found - words.begin());
}

std::optional<std::size_t> below(std::size_t number, std::size_t count) {
  return number < count ? std::optional(number) : std::nullopt;
}

std::optional<std::size_t> letter_position(const std::string& text, std::size_t count) {
  if (text.size() != 1) return std::nullopt;
  const char c = text[0];
  if (c >= 'A' && c <= 'Z') return below(static_cast<std::size_t>(c - 'A'), count);
  if (c >= 'a' && c <= 'z') return below(static_cast<std::size_t>(c - 'a'), count);
  return std::nullopt;
}

std::optional<std::size_t> number_position(const std::string& text, std::size_t count) {
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return below(number, count);
}

/// A number that the file does not write as text is never a letter or a choice's text.
Reading read_answer(const Written& written) {
  const std::size_t count = written.record.choices.size();
  const auto text = scalar_text(written.answer);
  if (!text) return {};
  if (!written.labels.empty()) {
    if (const auto label = position_of(written.labels, *text)) return {label, {}, {}};
  }
  const auto number = number_position(*text, count);
  if (!written.answer.is_string()) return {std::nullopt, std::nullopt, number};
  return {position_of(written.record.choices, *text), letter_position(*text, count), number};
}

/// How many answers of the file can be read in one way only, by way.
std::array<std::size_t, 3> plain_readings(const std::vector<Reading>& readings) {
  std::array<std::size_t, 3> counts{};
  for (const Reading& reading : readings) {
    const auto ways = std::ranges::count_if(reading, [](const auto& p) { return p.has_value(); });
    for (std::size_t way = 0; way < reading.size() && ways == 1; ++way) {
      if (reading[way]) ++counts[way];
    }
  }
  return counts;
}

Written parse(const Json& object, const ChoiceFields& fields, const Place& where) {
  if (!object.is_object()) fail(where, "no JSON object");
  Written written;
  written.record.where = where;
  const Json* text = &field(object, fields.question, {"question", "question_stem", "ctx"}, where);
  const Json* holder = &object;
  if (text->is_object() && text->contains("stem")) {  // ARC as its authors publish it
    holder = text;
    text = &holder->at("stem");
  }
  if (!text->is_string()) fail(where, "the question is no text");
  written.record.question = text->get<std::string>();
  read_choices(field(*holder, fields.choices, {"choices", "endings"}, where), written);
  written.answer = field(object, fields.answer, {"answer", "answerKey", "label"}, where);
  const bool is_hellaswag = fields.question.empty() && fields.choices.empty() &&
                            !object.contains("question") && object.contains("endings");
  if (is_hellaswag) read_hellaswag(object, written);
  return written;
}

std::size_t right_choice(const Written& written, const Reading& reading,
                         const std::array<std::size_t, 3>& counts) {
  std::optional<std::size_t> best;
  for (std::size_t way = 0; way < counts.size(); ++way) {
    if (reading[way] && (!best || counts[way] > counts[*best])) best = way;
  }
  if (best) return *reading[*best];
  fail(written.record.where, "the right answer " + core::shown(written.answer) +
                                 " is no label, letter, number from 0 or text of a choice");
}

}  // namespace

std::vector<ChoiceRecord> read_choice_records(const std::filesystem::path& file,
                                              const ChoiceFields& fields, std::size_t most) {
  JsonRecords values{LineSource(file)};
  std::vector<Written> all;
  for (Json value; (most == 0 || all.size() < most) && values.next(value);) {
    all.push_back(parse(value, fields, values.place()));
  }
  std::vector<Reading> readings;
  for (const Written& written : all) readings.push_back(read_answer(written));
  const auto counts = plain_readings(readings);
  std::vector<ChoiceRecord> records;
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i].record.truth = right_choice(all[i], readings[i], counts);
    records.push_back(std::move(all[i].record));
  }
  return records;
}

}  // namespace drystone::data
