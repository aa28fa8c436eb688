// The functions that templates find: those of Jinja and those that transformers adds.

#include <array>
#include <map>

#include "text/jinja_machine.h"

namespace drystone::text::jinja {

namespace {

Value raise(Machine& machine, const Arguments& arguments) {
  const Value* const message = arguments.find(0, "message");
  machine.fail(message == nullptr ? "the template refuses this" : machine.string_of(*message));
}

Dict named_entries(Machine& machine, const Arguments& arguments) {
  Dict dict;
  if (!arguments.positional.empty()) {
    const Dict* const given = arguments.positional.front().dict();
    if (given == nullptr) machine.fail("namespace and dict take names and a dict");
    machine.charge_items(given->entries.size());
    dict.entries = given->entries;
  }
  for (const auto& [name, value] : arguments.named) machine.set(dict, name, value);
  return dict;
}

Value make_namespace(Machine& machine, const Arguments& arguments) {
  return machine.make_namespace(named_entries(machine, arguments));
}

Value make_dict(Machine& machine, const Arguments& arguments) {
  Dict dict = named_entries(machine, arguments);
  machine.charge_items(dict.entries.size());
  return Value(std::move(dict));
}

Value range(Machine& machine, const Arguments& arguments) {
  constexpr std::int64_t kMaxItems = 100'000;  // as Jinja's sandbox
  std::array<std::int64_t, 3> bounds = {0, 0, 1};
  const std::size_t count = arguments.positional.size();
  if (count == 0 || count > 3) machine.fail("range takes one to three integers");
  for (std::size_t i = 0; i < count; ++i) {
    const auto bound = arguments.positional[i].as_integer();
    if (!bound) machine.fail("range takes integers");
    bounds[count == 1 ? 1 : i] = *bound;
  }
  const auto [begin, end, step] = bounds;
  if (step == 0) machine.fail("range: the step is 0");
  List items;
  for (std::int64_t i = begin; step > 0 ? i < end : i > end;) {
    if (static_cast<std::int64_t>(items.size()) == kMaxItems) machine.fail("range is too long");
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return machine.list(std::move(items));
}

Value format_now(Machine& machine, const Arguments& arguments) {
  const Value* const format = arguments.find(0, "format");
  if (format == nullptr || format->text() == nullptr) machine.fail("strftime_now needs a format");
  constexpr std::size_t kMaxFormat = 256;
  if (format->text()->size() > kMaxFormat) machine.fail("strftime_now: the format is too long");
  const std::time_t now = machine.now();
  std::tm parts{};
  if (::localtime_r(&now, &parts) == nullptr) machine.fail("strftime_now: no such time");
  std::array<char, 16 * kMaxFormat> buffer{};
  const std::size_t size =
      std::strftime(buffer.data(), buffer.size(), format->text()->c_str(), &parts);
  return machine.text(std::string(buffer.data(), size));
}

}  // namespace

Value find_function(const std::string& name) {
  using Native = Value (*)(Machine&, const Arguments&);
  static const std::map<std::string_view, Native> kFunctions = {{"dict", make_dict},
                                                                {"namespace", make_namespace},
                                                                {"raise_exception", raise},
                                                                {"range", range},
                                                                {"strftime_now", format_now}};
  const auto found = kFunctions.find(name);
  if (found == kFunctions.end()) return Value::undefined(name);
  Function function;
  function.native = found->second;
  return Value(std::move(function));
}

}  // namespace drystone::text::jinja
