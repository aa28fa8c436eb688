// The filters of Jinja that chat templates use.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "core/text.h"
#include "text/jinja_machine.h"
#include "text/jinja_text.h"

namespace drystone::text::jinja {

namespace {

Value whole(std::size_t number) { return Value(static_cast<std::int64_t>(number)); }

std::string text_argument(Machine& machine, const Arguments& arguments, std::size_t position,
                          std::string_view name, const std::string& standard) {
  const Value* const given = arguments.find(position, name);
  return given == nullptr ? standard : machine.string_of(*given);
}

bool flag(const Arguments& arguments, std::size_t position, std::string_view name) {
  const Value* const given = arguments.find(position, name);
  return given != nullptr && given->truth();
}

Value trim(Machine& machine, const Value& value, const Arguments& arguments) {
  const Value* const set = arguments.find(0, "chars");
  const bool has_set = set != nullptr && set->text() != nullptr;
  return machine.text(strip(machine.string_of(value),
                            has_set ? std::optional(*set->text()) : std::nullopt, Side::Both));
}

Value size_of(Machine& machine, const Value& value, const Arguments&) {
  if (value.text() != nullptr) return whole(length(*value.text()));
  if (value.list() != nullptr) return whole(value.list()->size());
  if (value.dict() != nullptr) return whole(value.dict()->entries.size());
  if (value.is_undefined()) return whole(0);
  machine.fail(value.type_name() + " has no length");
}

/// The value's text, with its change of case paid for.
std::string cased(Machine& machine, const Value& value, std::size_t work) {
  std::string text = machine.string_of(value);
  machine.work(work * text.size());
  return text;
}

Value make_upper(Machine& machine, const Value& value, const Arguments&) {
  return machine.text(upper(cased(machine, value, kCaseWork)));
}
Value make_lower(Machine& machine, const Value& value, const Arguments&) {
  return machine.text(lower(cased(machine, value, kCaseWork)));
}
Value make_capitalized(Machine& machine, const Value& value, const Arguments&) {
  return machine.text(capitalize(cased(machine, value, kCaseWork)));
}
Value make_title(Machine& machine, const Value& value, const Arguments&) {
  return machine.text(title(cased(machine, value, kTitleWork)));
}

Value use_default(Machine&, const Value& value, const Arguments& arguments) {
  const bool is_missing = value.is_undefined() || (flag(arguments, 1, "boolean") && !value.truth());
  if (!is_missing) return value;
  const Value* const standard = arguments.find(0, "default_value");
  return standard == nullptr ? Value("") : *standard;
}

Value json(Machine& machine, const Value& value, const Arguments& arguments) {
  constexpr std::int64_t kMaxIndent = 64;
  JsonStyle style;
  style.ensure_ascii = flag(arguments, 0, "ensure_ascii");
  if (const Value* const indent = arguments.find(1, "indent"); indent && !indent->is_none()) {
    const auto spaces = indent->as_integer();
    if (!spaces || *spaces < 0 || *spaces > kMaxIndent) machine.fail("tojson: wrong indent");
    style.indent = static_cast<std::size_t>(*spaces);
    style.item_separator = ",";
  }
  if (const Value* const given = arguments.find(2, "separators"); given && !given->is_none()) {
    const List parts = machine.items(*given);
    if (parts.size() != 2) machine.fail("tojson: separators must be two");
    style.item_separator = machine.string_of(parts[0]);
    style.key_separator = machine.string_of(parts[1]);
  }
  style.sort_keys = flag(arguments, 3, "sort_keys");
  return machine.text(to_json(value, style));
}

Value attribute_of(Machine& machine, const Value& object, const std::string& path) {
  Value value = object;
  machine.work(path.size());
  machine.charge(sizeof(std::string) * jinja::count(path, "."));
  for (const std::string& part : split(path, ".", -1)) {
    std::int64_t index = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool is_index = error == std::errc() && end == part.data() + part.size();
    value = machine.item(value, is_index ? Value(index) : Value(part));
  }
  return value;
}

Value join(Machine& machine, const Value& value, const Arguments& arguments) {
  const std::string separator = text_argument(machine, arguments, 0, "d", "");
  const Value* const path = arguments.find(1, "attribute");
  std::string result;
  bool is_first = true;
  for (const Value& item : machine.items(value)) {
    if (!std::exchange(is_first, false)) result += separator;
    const std::string part = machine.string_of(
        path == nullptr ? item : attribute_of(machine, item, machine.string_of(*path)));
    machine.charge(part.size() + separator.size());
    result += part;
  }
  return Value(std::move(result));
}

Value replace_text(Machine& machine, const Value& value, const Arguments& arguments) {
  if (arguments.positional.size() < 2) machine.fail("replace needs what and by what");
  const std::string text = machine.string_of(value);
  const std::string from = machine.string_of(arguments.positional[0]);
  const std::string to = machine.string_of(arguments.positional[1]);
  machine.charge(text.size() + jinja::count(text, from) * to.size());
  const Value* const given = arguments.find(2, "count");
  const auto limit = given == nullptr ? std::nullopt : given->as_integer();
  return machine.text(replace(text, from, to, limit.value_or(-1)));
}

Value as_list(Machine& machine, const Value& value, const Arguments&) {
  return machine.list(machine.items(value));
}

/// The rest of the arguments, for a filter or test that is named by one of them.
Arguments behind(const Arguments& arguments, std::size_t count) {
  Arguments rest;
  const std::size_t first = std::min(count, arguments.positional.size());
  rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(first),
                         arguments.positional.end());
  return rest;
}

Value map(Machine& machine, const Value& value, const Arguments& arguments) {
  List result;
  const Value* const path = arguments.positional.empty() ? arguments.find(0, "attribute") : nullptr;
  if (path == nullptr && arguments.positional.empty()) machine.fail("map needs a filter");
  const Value* const standard = arguments.find(1, "default");
  for (const Value& item : machine.items(value)) {
    if (path == nullptr) {
      result.push_back(apply_filter(machine, machine.string_of(arguments.positional[0]), item,
                                    behind(arguments, 1)));
      continue;
    }
    Value found = attribute_of(machine, item, machine.string_of(*path));
    result.push_back(found.is_undefined() && standard != nullptr ? *standard : std::move(found));
  }
  return machine.list(std::move(result));
}

/// select, reject, selectattr and rejectattr.
template <bool kKeep, bool kByAttribute>
Value choose(Machine& machine, const Value& value, const Arguments& arguments) {
  constexpr std::size_t kTest = kByAttribute ? 1 : 0;
  if (kByAttribute && arguments.positional.empty()) machine.fail("needs an attribute");
  List result;
  for (const Value& item : machine.items(value)) {
    const Value tested =
        kByAttribute ? attribute_of(machine, item, machine.string_of(arguments.positional[0]))
                     : item;
    const bool holds = arguments.positional.size() > kTest
                           ? apply_test(machine, machine.string_of(arguments.positional[kTest]),
                                        tested, behind(arguments, kTest + 1))
                           : tested.truth();
    if (holds == kKeep) result.push_back(item);
  }
  return machine.list(std::move(result));
}

Value first(Machine& machine, const Value& value, const Arguments&) {
  const List items = machine.items(value);
  return items.empty() ? Value::undefined("first") : items.front();
}

Value last(Machine& machine, const Value& value, const Arguments&) {
  const List items = machine.items(value);
  return items.empty() ? Value::undefined("last") : items.back();
}

Value reverse(Machine& machine, const Value& value, const Arguments&) {
  List items = machine.items(value);
  std::ranges::reverse(items);
  if (value.text() == nullptr) return machine.list(std::move(items));
  std::string text;
  for (const Value& item : items) text += *item.text();
  return machine.text(std::move(text));
}

/// What sort and its kin compare: lower case unless told otherwise.
Value sort_key(Machine& machine, const Value& value, const Value* path, bool is_case_sensitive) {
  Value key = path == nullptr || path->is_none()
                  ? value
                  : attribute_of(machine, value, machine.string_of(*path));
  if (key.text() == nullptr || is_case_sensitive) return key;
  return machine.text(lower(cased(machine, key, kCaseWork)));
}

Value sort(Machine& machine, const Value& value, const Arguments& arguments) {
  const List items = machine.items(value);
  const Value* const path = arguments.find(2, "attribute");
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : items) {
    keyed.emplace_back(sort_key(machine, item, path, flag(arguments, 1, "case_sensitive")), item);
  }
  const bool is_reverse = flag(arguments, 0, "reverse");
  std::ranges::stable_sort(keyed, [&](const auto& a, const auto& b) {
    return is_reverse ? machine.is_less(b.first, a.first) : machine.is_less(a.first, b.first);
  });
  List sorted;
  for (auto& entry : keyed) sorted.push_back(std::move(entry.second));
  return machine.list(std::move(sorted));
}

Value unique(Machine& machine, const Value& value, const Arguments& arguments) {
  List seen;
  List kept;
  for (const Value& item : machine.items(value)) {
    Value key = sort_key(machine, item, arguments.find(1, "attribute"),
                         flag(arguments, 0, "case_sensitive"));
    const auto is_same = [&](const Value& old) { return machine.is_equal(old, key); };
    if (std::ranges::any_of(seen, is_same)) continue;
    seen.push_back(std::move(key));
    kept.push_back(item);
  }
  return machine.list(std::move(kept));
}

template <bool kLargest>
Value extreme(Machine& machine, const Value& value, const Arguments&) {
  const List items = machine.items(value);
  if (items.empty()) return Value::undefined("extreme");
  const Value* best = &items.front();
  for (const Value& item : items) {
    if (kLargest ? machine.is_less(*best, item) : machine.is_less(item, *best)) best = &item;
  }
  return *best;
}

std::optional<double> parsed(const Value& value) {
  if (const auto number = value.as_number()) return number;
  if (value.text() == nullptr) return std::nullopt;
  const std::string digits = strip(*value.text(), std::nullopt, Side::Both);
  double number = 0.0;
  const char* const end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, number);
  return error == std::errc() && stop == end ? std::optional(number) : std::nullopt;
}

Value to_integer(Machine&, const Value& value, const Arguments& arguments) {
  constexpr double kLimit = 9.2e18;
  if (const auto exact = value.as_integer()) return Value(*exact);
  const auto number = parsed(value);
  if (number && std::abs(*number) < kLimit) return Value(static_cast<std::int64_t>(*number));
  const Value* const standard = arguments.find(0, "default");
  return standard == nullptr ? Value(std::int64_t{0}) : *standard;
}

Value to_real(Machine&, const Value& value, const Arguments& arguments) {
  if (const auto number = parsed(value)) return Value(*number);
  const Value* const standard = arguments.find(0, "default");
  return standard == nullptr ? Value(0.0) : *standard;
}

Value to_string(Machine& machine, const Value& value, const Arguments&) {
  return machine.text(machine.string_of(value));
}

Value absolute(Machine& machine, const Value& value, const Arguments&) {
  const auto number = value.as_number();
  if (!number) machine.fail("abs needs a number");
  const auto exact = value.as_integer();
  if (!exact) return Value(std::abs(*number));
  return Value(*exact < 0 ? -std::max(*exact, -std::numeric_limits<std::int64_t>::max()) : *exact);
}

Value items_of(Machine& machine, const Value& value, const Arguments&) {
  if (value.is_undefined()) return Value(List{});
  const Dict* const dict = value.dict();
  if (dict == nullptr) machine.fail("items needs a dict, not " + value.type_name());
  List result;
  for (const auto& [key, held] : dict->entries) {
    result.emplace_back(List{machine.text(key), held});
  }
  return machine.list(std::move(result));
}

Value sorted_items(Machine& machine, const Value& value, const Arguments& arguments) {
  const Value items = items_of(machine, value, arguments);
  Arguments by_key;
  by_key.named.emplace_back("attribute", Value("0"));
  return sort(machine, items, by_key);
}

Value indent(Machine& machine, const Value& value, const Arguments& arguments) {
  const Value* const given = arguments.find(0, "width");
  const bool is_text = given != nullptr && given->text() != nullptr;
  const std::int64_t spaces = given == nullptr ? 4 : given->as_integer().value_or(4);
  constexpr std::int64_t kMaxWidth = 256;
  if (spaces < 0 || spaces > kMaxWidth) machine.fail("indent: wrong width");
  const std::string margin =
      is_text ? *given->text() : std::string(static_cast<std::size_t>(spaces), ' ');
  std::string result = flag(arguments, 1, "first") ? margin : "";
  const std::string text = machine.string_of(value);
  machine.charge(sizeof(std::string) * jinja::count(text, "\n"));
  const std::vector<std::string> lines = split(text, "\n", -1);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) result += '\n';
    if (i > 0 && (!lines[i].empty() || flag(arguments, 2, "blank"))) result += margin;
    machine.charge(lines[i].size() + margin.size());
    result += lines[i];
  }
  return Value(std::move(result));
}

Value same(Machine&, const Value& value, const Arguments&) { return value; }

}  // namespace

Filter find_filter(std::string_view name) {
  static const std::map<std::string_view, Filter> kFilters = {{"abs", absolute},
                                                              {"capitalize", make_capitalized},
                                                              {"count", size_of},
                                                              {"d", use_default},
                                                              {"default", use_default},
                                                              {"dictsort", sorted_items},
                                                              {"first", first},
                                                              {"float", to_real},
                                                              {"indent", indent},
                                                              {"int", to_integer},
                                                              {"items", items_of},
                                                              {"join", join},
                                                              {"last", last},
                                                              {"length", size_of},
                                                              {"list", as_list},
                                                              {"lower", make_lower},
                                                              {"map", map},
                                                              {"max", extreme<true>},
                                                              {"min", extreme<false>},
                                                              {"reject", choose<false, false>},
                                                              {"rejectattr", choose<false, true>},
                                                              {"replace", replace_text},
                                                              {"reverse", reverse},
                                                              {"safe", same},
                                                              {"select", choose<true, false>},
                                                              {"selectattr", choose<true, true>},
                                                              {"sort", sort},
                                                              {"string", to_string},
                                                              {"title", make_title},
                                                              {"tojson", json},
                                                              {"trim", trim},
                                                              {"unique", unique},
                                                              {"upper", make_upper}};
  const auto found = kFilters.find(name);
  return found == kFilters.end() ? nullptr : found->second;
}

Value apply_filter(Machine& machine, const std::string& name, const Value& value,
                   const Arguments& arguments) {
  const Filter filter = find_filter(name);
  if (filter == nullptr) machine.fail("filter " + core::quote(name) + " is not supported");
  machine.work_on(value);
  machine.work_on(arguments);
  return filter(machine, value, arguments);
}

}  // namespace drystone::text::jinja
