// Python's methods of strings, lists and dicts that chat templates call.

#include <algorithm>
#include <map>

#include <unicode/uchar.h>

#include "core/text.h"
#include "text/jinja_machine.h"
#include "text/jinja_text.h"
#include "text/utf8.h"

namespace drystone::text::jinja {

namespace {

using Text = const std::string&;
using TextMethod = Value (*)(Machine&, Text, const Arguments&);

std::string text_argument(Machine& machine, const Arguments& arguments, std::size_t position) {
  const bool is_there = position < arguments.positional.size();
  if (!is_there || arguments.positional[position].text() == nullptr) {
    machine.fail("a method of str needs a string as argument " + std::to_string(position + 1));
  }
  return *arguments.positional[position].text();
}

std::optional<std::string> optional_text(const Arguments& arguments) {
  if (arguments.positional.empty()) return std::nullopt;
  const std::string* const text = arguments.positional.front().text();
  return text == nullptr ? std::nullopt : std::optional(*text);
}

std::int64_t bound(const Arguments& arguments) {
  const Value* const given = arguments.find(1, "maxsplit");
  return given == nullptr ? -1 : given->as_integer().value_or(-1);
}

Value texts(Machine& machine, const std::vector<std::string>& parts) {
  List items;
  for (const std::string& part : parts) items.push_back(machine.text(part));
  return machine.list(std::move(items));
}

template <Side kSide>
Value strip_text(Machine& machine, Text text, const Arguments& arguments) {
  return machine.text(strip(text, optional_text(arguments), kSide));
}

template <bool kRight>
Value split_text(Machine& machine, Text text, const Arguments& arguments) {
  const Value* const given = arguments.find(0, "sep");
  const std::string* const separator = given == nullptr ? nullptr : given->text();
  const auto is_space = [](char byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); };
  machine.charge_items(separator == nullptr
                           ? static_cast<std::size_t>(std::ranges::count_if(text, is_space))
                           : jinja::count(text, *separator));
  if (separator == nullptr) {
    if (kRight && bound(arguments) >= 0) machine.fail("rsplit needs a separator");
    return texts(machine, split(text, std::nullopt, bound(arguments)));
  }
  if (separator->empty()) machine.fail("split: empty separator");
  return texts(machine, kRight ? split_right(text, *separator, bound(arguments))
                               : split(text, *separator, bound(arguments)));
}

Value lines(Machine& machine, Text text, const Arguments&) {
  constexpr std::string_view kBreaks = "\n\r\v\f";
  const auto is_break = [&](char byte) { return kBreaks.find(byte) != std::string_view::npos; };
  machine.charge(sizeof(std::string) *
                 static_cast<std::size_t>(std::ranges::count_if(text, is_break)));
  return texts(machine, split_lines(text));
}

/// startswith and endswith, which also take a tuple.
template <bool kAtEnd>
Value has_end(Machine& machine, Text text, const Arguments& arguments) {
  const auto holds = [&](const Value& part) {
    if (part.text() == nullptr) machine.fail("startswith and endswith need strings");
    machine.work(1 + std::min(text.size(), part.text()->size()) / 8);
    return kAtEnd ? text.ends_with(*part.text()) : text.starts_with(*part.text());
  };
  if (arguments.positional.empty()) machine.fail("startswith and endswith need a string");
  const Value& parts = arguments.positional.front();
  if (parts.list() == nullptr) return Value(holds(parts));
  return Value(std::ranges::any_of(*parts.list(), holds));
}

template <bool kRight>
Value find_text(Machine& machine, Text text, const Arguments& arguments) {
  const std::string part = text_argument(machine, arguments, 0);
  const std::size_t found = kRight ? rfind_text(text, part) : jinja::find_text(text, part);
  if (found == std::string::npos) return Value(std::int64_t{-1});
  return Value(static_cast<std::int64_t>(length(std::string_view(text).substr(0, found))));
}

Value index_text(Machine& machine, Text text, const Arguments& arguments) {
  Value found = find_text<false>(machine, text, arguments);
  if (*found.integer() < 0) machine.fail("index: not found");
  return found;
}

Value count_text(Machine& machine, Text text, const Arguments& arguments) {
  return Value(static_cast<std::int64_t>(count(text, text_argument(machine, arguments, 0))));
}

Value replace_text(Machine& machine, Text text, const Arguments& arguments) {
  const std::string from = text_argument(machine, arguments, 0);
  const std::string to = text_argument(machine, arguments, 1);
  machine.charge(text.size() + count(text, from) * to.size());
  const Value* const limit = arguments.find(2, "count");
  return machine.text(
      replace(text, from, to, limit == nullptr ? -1 : limit->as_integer().value_or(-1)));
}

template <std::string (*kMap)(const std::string&)>
Value mapped(Machine& machine, Text text, const Arguments&) {
  machine.work((kMap == title ? kTitleWork : kCaseWork) * text.size());
  return machine.text(kMap(text));
}

template <bool kAtEnd>
Value without(Machine& machine, Text text, const Arguments& arguments) {
  const std::string part = text_argument(machine, arguments, 0);
  const bool has = kAtEnd ? text.ends_with(part) : text.starts_with(part);
  if (!has) return Value(text);
  return machine.text(kAtEnd ? text.substr(0, text.size() - part.size())
                             : text.substr(part.size()));
}

Value join(Machine& machine, Text text, const Arguments& arguments) {
  if (arguments.positional.empty()) machine.fail("join needs a list");
  std::string result;
  bool is_first = true;
  for (const Value& item : machine.items(arguments.positional.front())) {
    if (item.text() == nullptr) machine.fail("join needs strings, not " + item.type_name());
    machine.charge(text.size() + item.text()->size());
    if (!std::exchange(is_first, false)) result += text;
    result += *item.text();
  }
  return Value(std::move(result));
}

template <UBool (*kIs)(UChar32)>
Value all_are(Machine&, Text text, const Arguments&) {
  for (std::size_t position = 0; position < text.size();) {
    if (!kIs(static_cast<UChar32>(decode_utf8(text, position)))) return Value(false);
  }
  return Value(!text.empty());
}

template <std::string (*kMap)(const std::string&), std::string (*kOther)(const std::string&)>
Value is_cased(Machine& machine, Text text, const Arguments&) {
  machine.work(2 * kCaseWork * text.size());
  return Value(kMap(text) == text && kOther(text) != text);
}

const std::map<std::string_view, TextMethod>& text_methods() {
  static const std::map<std::string_view, TextMethod> kMethods = {
      {"capitalize", mapped<capitalize>},
      {"count", count_text},
      {"endswith", has_end<true>},
      {"find", find_text<false>},
      {"index", index_text},
      {"isalnum", all_are<u_isalnum>},
      {"isalpha", all_are<u_isalpha>},
      {"isdigit", all_are<u_isdigit>},
      {"islower", is_cased<lower, upper>},
      {"isspace", all_are<u_isUWhiteSpace>},
      {"isupper", is_cased<upper, lower>},
      {"join", join},
      {"lower", mapped<lower>},
      {"lstrip", strip_text<Side::Left>},
      {"removeprefix", without<false>},
      {"removesuffix", without<true>},
      {"replace", replace_text},
      {"rfind", find_text<true>},
      {"rsplit", split_text<true>},
      {"rstrip", strip_text<Side::Right>},
      {"split", split_text<false>},
      {"splitlines", lines},
      {"startswith", has_end<false>},
      {"strip", strip_text<Side::Both>},
      {"title", mapped<title>},
      {"upper", mapped<upper>}};
  return kMethods;
}

Value call_dict(Machine& machine, const Dict& dict, const std::string& name,
                const Arguments& arguments) {
  if (name == "get") {
    const std::string key = text_argument(machine, arguments, 0);
    const Value* const standard = arguments.find(1, "default");
    if (const Value* const found = machine.find(dict, key)) return *found;
    return standard == nullptr ? Value::none() : *standard;
  }
  List result;
  for (const auto& [key, value] : dict.entries) {
    if (name == "keys") result.push_back(machine.text(key));
    if (name == "values") result.push_back(value);
    if (name == "items") result.emplace_back(List{machine.text(key), value});
  }
  if (name != "keys" && name != "values" && name != "items") {
    machine.fail("dict has no method " + core::quote(name));
  }
  return machine.list(std::move(result));
}

Value call_list(Machine& machine, const List& list, const std::string& name,
                const Arguments& arguments) {
  if (name != "index" && name != "count") {
    machine.fail("list has no method " + core::quote(name) + " (templates cannot change lists)");
  }
  if (arguments.positional.empty()) machine.fail(name + " needs a value");
  machine.charge(list.size());
  const Value& wanted = arguments.positional.front();
  const auto is_wanted = [&](const Value& item) { return machine.is_equal(item, wanted); };
  if (name == "count") return Value(std::ranges::count_if(list, is_wanted));
  const auto found = std::ranges::find_if(list, is_wanted);
  if (found == list.end()) machine.fail("index: not found");
  return Value(static_cast<std::int64_t>(found - list.begin()));
}

}  // namespace

Value call_method(Machine& machine, const Value& object, const std::string& name,
                  const Arguments& arguments) {
  machine.work_on(arguments);
  if (const std::string* text = object.text()) {
    const auto found = text_methods().find(name);
    if (found == text_methods().end()) machine.fail("str has no method " + core::quote(name));
    machine.charge(text->size());
    return found->second(machine, *text, arguments);
  }
  if (const Dict* dict = object.dict()) return call_dict(machine, *dict, name, arguments);
  if (const List* list = object.list()) return call_list(machine, *list, name, arguments);
  machine.fail(object.type_name() + " has no method " + core::quote(name));
}

}  // namespace drystone::text::jinja
