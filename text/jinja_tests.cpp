// The tests of Jinja ("is defined").

#include <map>

#include "core/text.h"
#include "text/jinja_machine.h"
#include "text/jinja_text.h"

namespace drystone::text::jinja {

namespace {

const Value& other(Machine& machine, const Arguments& arguments) {
  if (arguments.positional.empty()) machine.fail("a test lacks its argument");
  return arguments.positional.front();
}

std::int64_t whole(Machine& machine, const Value& value) {
  const auto number = value.as_integer();
  if (!number) machine.fail("a test needs an integer, not " + value.type_name());
  return *number;
}

bool is_defined(Machine&, const Value& value, const Arguments&) { return !value.is_undefined(); }
bool is_undefined(Machine&, const Value& value, const Arguments&) { return value.is_undefined(); }
bool is_none(Machine&, const Value& value, const Arguments&) { return value.is_none(); }
bool is_string(Machine&, const Value& value, const Arguments&) { return value.text() != nullptr; }
bool is_number(Machine&, const Value& value, const Arguments&) {
  return value.as_number().has_value();
}
bool is_integer(Machine&, const Value& value, const Arguments&) {
  return value.integer() != nullptr;
}
bool is_real(Machine&, const Value& value, const Arguments&) { return value.real() != nullptr; }
bool is_boolean(Machine&, const Value& value, const Arguments&) {
  return value.boolean() != nullptr;
}
bool is_true(Machine&, const Value& value, const Arguments&) {
  return value.boolean() != nullptr && *value.boolean();
}
bool is_false(Machine&, const Value& value, const Arguments&) {
  return value.boolean() != nullptr && !*value.boolean();
}
bool is_mapping(Machine&, const Value& value, const Arguments&) {
  return value.dict() != nullptr && !value.dict()->is_namespace;
}
// Python's undefined has a length and can be iterated, so that it counts.
bool is_sequence(Machine&, const Value& value, const Arguments&) {
  return value.list() != nullptr || value.text() != nullptr || value.is_undefined() ||
         (value.dict() != nullptr && !value.dict()->is_namespace);
}
bool is_callable(Machine&, const Value& value, const Arguments&) {
  return value.function() != nullptr;
}
bool is_odd(Machine& machine, const Value& value, const Arguments&) {
  return whole(machine, value) % 2 != 0;
}
bool is_even(Machine& machine, const Value& value, const Arguments&) {
  return whole(machine, value) % 2 == 0;
}
bool is_divisible(Machine& machine, const Value& value, const Arguments& arguments) {
  const std::int64_t by = whole(machine, other(machine, arguments));
  if (by == 0) machine.fail("division by zero");
  return by == -1 || whole(machine, value) % by == 0;
}
bool is_equal(Machine& machine, const Value& value, const Arguments& arguments) {
  return machine.is_equal(value, other(machine, arguments));
}
bool is_not_equal(Machine& machine, const Value& value, const Arguments& arguments) {
  return !machine.is_equal(value, other(machine, arguments));
}
bool is_below(Machine& machine, const Value& value, const Arguments& arguments) {
  return machine.is_less(value, other(machine, arguments));
}
bool is_above(Machine& machine, const Value& value, const Arguments& arguments) {
  return machine.is_less(other(machine, arguments), value);
}
bool is_at_most(Machine& machine, const Value& value, const Arguments& arguments) {
  return is_below(machine, value, arguments) || is_equal(machine, value, arguments);
}
bool is_at_least(Machine& machine, const Value& value, const Arguments& arguments) {
  return is_above(machine, value, arguments) || is_equal(machine, value, arguments);
}
bool is_in(Machine& machine, const Value& value, const Arguments& arguments) {
  return machine.contains(other(machine, arguments), value);
}
bool is_upper(Machine& machine, const Value& value, const Arguments&) {
  const std::string text = machine.string_of(value);
  machine.work(kCaseWork * text.size());
  return upper(text) == text && lower(text) != text;
}
bool is_lower(Machine& machine, const Value& value, const Arguments&) {
  const std::string text = machine.string_of(value);
  machine.work(kCaseWork * text.size());
  return lower(text) == text && upper(text) != text;
}

}  // namespace

Test find_test(std::string_view name) {
  static const std::map<std::string_view, Test> kTests = {{"!=", is_not_equal},
                                                          {"<", is_below},
                                                          {"<=", is_at_most},
                                                          {"==", is_equal},
                                                          {">", is_above},
                                                          {">=", is_at_least},
                                                          {"boolean", is_boolean},
                                                          {"callable", is_callable},
                                                          {"defined", is_defined},
                                                          {"divisibleby", is_divisible},
                                                          {"eq", is_equal},
                                                          {"equalto", is_equal},
                                                          {"even", is_even},
                                                          {"false", is_false},
                                                          {"float", is_real},
                                                          {"ge", is_at_least},
                                                          {"greaterthan", is_above},
                                                          {"gt", is_above},
                                                          {"in", is_in},
                                                          {"integer", is_integer},
                                                          {"iterable", is_sequence},
                                                          {"le", is_at_most},
                                                          {"lessthan", is_below},
                                                          {"lower", is_lower},
                                                          {"lt", is_below},
                                                          {"mapping", is_mapping},
                                                          {"ne", is_not_equal},
                                                          {"none", is_none},
                                                          {"number", is_number},
                                                          {"odd", is_odd},
                                                          {"sequence", is_sequence},
                                                          {"string", is_string},
                                                          {"true", is_true},
                                                          {"undefined", is_undefined},
                                                          {"upper", is_upper}};
  const auto found = kTests.find(name);
  return found == kTests.end() ? nullptr : found->second;
}

bool apply_test(Machine& machine, const std::string& name, const Value& value,
                const Arguments& arguments) {
  const Test test = find_test(name);
  if (test == nullptr) machine.fail("test " + core::quote(name) + " is not supported");
  machine.work_on(arguments);
  return test(machine, value, arguments);
}

}  // namespace drystone::text::jinja
