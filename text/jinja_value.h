#pragma once
// Values of the Jinja interpreter: Python's, as far as chat templates need them.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace drystone::text::jinja {

class Value;
class Machine;
struct MacroNode;
struct Scope;

using List = std::vector<Value>;

/// Keys are strings; in the order of insertion. Immutable, as in the sandbox of transformers, but
/// for namespaces.
struct Dict {
  std::vector<std::pair<std::string, Value>> entries;
  bool is_namespace = false;

  const Value* find(std::string_view key) const;
  void set(std::string_view key, Value value);
};

/// What a call was given.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  /// By position, else by name; null if it is not there.
  const Value* find(std::size_t position, std::string_view name) const;
};

/// A macro, or a function of the interpreter.
struct Function {
  std::function<Value(Machine&, const Arguments&)> native;
  const MacroNode* macro = nullptr;
  std::shared_ptr<Scope> closure;
};

/// As std::make_shared, but destroys what is nested in it without recursion, however deep.
std::shared_ptr<Dict> shared(Dict dict);

class Value {
 public:
  struct Undefined {
    std::string name;  ///< what was looked up
  };
  struct None {};

  Value() = default;
  explicit Value(bool value) : held_(value) {}
  explicit Value(std::int64_t value) : held_(value) {}
  explicit Value(double value) : held_(value) {}
  explicit Value(std::string value)
      : held_(std::make_shared<const std::string>(std::move(value))) {}
  explicit Value(const char* value) : Value(std::string(value)) {}
  explicit Value(List items);
  explicit Value(std::shared_ptr<Dict> dict) : held_(std::move(dict)) {}
  explicit Value(Dict dict) : Value(shared(std::move(dict))) {}
  explicit Value(Function function)
      : held_(std::make_shared<const Function>(std::move(function))) {}
  static Value none() { return Value(Held(None{})); }
  static Value undefined(std::string name) { return Value(Held(Undefined{std::move(name)})); }

  const Undefined* undefined() const { return std::get_if<Undefined>(&held_); }
  bool is_undefined() const { return undefined() != nullptr; }
  bool is_none() const { return std::holds_alternative<None>(held_); }
  const bool* boolean() const { return std::get_if<bool>(&held_); }
  const std::int64_t* integer() const { return std::get_if<std::int64_t>(&held_); }
  const double* real() const { return std::get_if<double>(&held_); }
  const std::string* text() const { return pointee<const std::string>(); }
  const List* list() const { return pointee<const List>(); }
  Dict* dict() const { return pointee<Dict>(); }
  const Function* function() const { return pointee<const Function>(); }

  /// The whole number that a bool or an integer is.
  std::optional<std::int64_t> as_integer() const;
  /// The number that a bool, integer or real is.
  std::optional<double> as_number() const;
  bool truth() const;
  /// Python's name of the type, for messages.
  std::string type_name() const;

 private:
  using Held = std::variant<Undefined, None, bool, std::int64_t, double,
                            std::shared_ptr<const std::string>, std::shared_ptr<const List>,
                            std::shared_ptr<Dict>, std::shared_ptr<const Function>>;
  explicit Value(Held held) : held_(std::move(held)) {}

  template <typename T>
  T* pointee() const {
    const auto* pointer = std::get_if<std::shared_ptr<T>>(&held_);
    return pointer == nullptr ? nullptr : pointer->get();
  }

  Held held_;
};

// Values may share parts, so that a small one can be endless to walk through: comparing and writing
// throw core::ConfigError beyond 64 levels, a million parts or 16 MiB of text.

/// Python's ==. Takes what it costs from `budget`: about 1 for each part, name and eight bytes of
/// text that it looks at. @throws core::ConfigError  also when that is used up
bool equals(const Value& a, const Value& b, std::size_t& budget);

/// Python's <: of numbers, strings or lists; absent for what Python does not order. As equals.
std::optional<bool> less(const Value& a, const Value& b, std::size_t& budget);

/// Python's str(); undefined is empty.
std::string to_text(const Value& value);

/// Shortest decimal text, as Python's repr of a float.
std::string real_text(double value);

struct JsonStyle {
  std::optional<std::size_t> indent;  ///< spaces; absent: on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool ensure_ascii = false;
  bool sort_keys = false;
};

/// Python's json.dumps(). @throws core::ConfigError  also for what JSON does not have
std::string to_json(const Value& value, const JsonStyle& style);

}  // namespace drystone::text::jinja
