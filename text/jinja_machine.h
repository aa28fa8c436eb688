#pragma once
// Runs Jinja templates. Private to this folder; text/jinja.h is the way in.

#include <cstddef>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja_syntax.h"
#include "text/jinja_value.h"

namespace drystone::text::jinja {

struct Scope {
  std::vector<std::pair<std::string, Value>> variables;
  std::shared_ptr<Scope> parent;

  Value* find(std::string_view name);  ///< in this one alone
  void set(const std::string& name, Value value);
};

/// One run. What a template may cost is bounded, whatever it says: steps, work (what single steps
/// read and compare), bytes of each value and of all that it makes, nesting.
class Machine {
 public:
  /// @param now  for strftime_now
  Machine(const Dict& variables, std::time_t now);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  void run(const Block& block);
  const std::string& output() const { return root_output_; }
  /// Byte ranges of the output that {% generation %} marks.
  const std::vector<std::pair<std::size_t, std::size_t>>& generations() const {
    return generations_;
  }

  // For filters, tests, methods and functions:
  /// @throws core::ConfigError  `line N: …`
  [[noreturn]] void fail(const std::string& problem) const;
  /// Pays for work: about 1 for each byte that is read, and for each name that is compared.
  void work(std::size_t units);
  /// Pays for reading a text, or the items of a list, once.
  void work_on(const Value& value);
  void work_on(const Arguments& arguments);
  /// Pays for a value before it is made.
  void charge(std::size_t bytes);
  void charge_items(std::size_t items) { charge(items * sizeof(Value)); }
  Value text(std::string value);
  Value list(List items);
  Value make_namespace(Dict attributes);
  Value call(const Value& callee, const Arguments& arguments);
  Value attribute(const Value& object, const std::string& name);
  Value item(const Value& object, const Value& index);
  bool contains(const Value& container, const Value& item);
  bool is_equal(const Value& a, const Value& b) { return equals(a, b, work_left_); }
  bool is_less(const Value& a, const Value& b);
  /// The value under `key`, nullptr if there is none.
  const Value* find(const Dict& dict, std::string_view key);
  void set(Dict& dict, std::string_view key, Value value);
  /// Python's str().
  std::string string_of(const Value& value);
  /// What a loop over `value` sees. @throws core::ConfigError  not iterable
  List items(const Value& value);
  std::time_t now() const { return now_; }

 private:
  enum class Flow { Normal, Break, Continue };
  class Deeper;
  class Redirect;

  std::shared_ptr<Scope> new_scope(std::shared_ptr<Scope> parent);
  Value* find_variable(const std::string& name);
  void set_variable(const std::string& name, Value value);

  Flow execute(const Block& block);
  Flow execute(const Node& node);
  Flow execute_if(const Node& node);
  Flow execute_for(const Node& node);
  List loop_items(const Node& node);
  void bind(const Node& node, const Value& item);
  Value loop_variable(const List& items, std::size_t index);
  void assign(const Node& node, Value value);
  std::string captured(const Block& block);
  void generate(const Node& node);
  void write(std::string_view text);
  Value call_macro(const Function& function, const Arguments& arguments);

  Value evaluate(const Expr& expr);
  Value evaluate_unary(const Expr& expr);
  Value evaluate_binary(const Expr& expr);
  Value evaluate_compare(const Expr& expr);
  Value evaluate_call(const Expr& expr);
  Value evaluate_dict(const Expr& expr);
  Value evaluate_slice(const Expr& expr);
  Value look_up(const std::string& name);
  Arguments arguments(const Expr& expr);
  bool compare(Op op, const Value& a, const Value& b);
  Value arithmetic(Op op, const Value& a, const Value& b);
  Value whole_arithmetic(Op op, std::int64_t a, std::int64_t b);
  Value real_arithmetic(Op op, double a, double b);
  Value repeat(const Value& value, std::int64_t times);
  Value add(const Value& a, const Value& b);

  const Dict& variables_;
  std::time_t now_;
  std::string root_output_;
  std::string* output_ = &root_output_;
  std::vector<std::pair<std::size_t, std::size_t>> generations_;
  std::shared_ptr<Scope> scope_;
  std::vector<std::weak_ptr<Scope>> scopes_;     ///< macros close over them: emptied at the end
  std::vector<std::weak_ptr<Dict>> namespaces_;  ///< may hold themselves: emptied at the end
  std::size_t steps_ = 0;
  std::size_t work_left_;
  std::size_t bytes_ = 0;
  int depth_ = 0;
  int line_ = 0;
};

using Filter = Value (*)(Machine&, const Value&, const Arguments&);
/// nullptr if there is none of that name.
Filter find_filter(std::string_view name);

using Test = bool (*)(Machine&, const Value&, const Arguments&);
Test find_test(std::string_view name);

/// namespace, range, raise_exception, …; undefined if there is none of that name.
Value find_function(const std::string& name);

/// A method of a string, list or dict. @throws core::ConfigError  there is none
Value call_method(Machine& machine, const Value& object, const std::string& name,
                  const Arguments& arguments);

/// A filter or test by name, or an error that says so.
Value apply_filter(Machine& machine, const std::string& name, const Value& value,
                   const Arguments& arguments);
bool apply_test(Machine& machine, const std::string& name, const Value& value,
                const Arguments& arguments);

}  // namespace drystone::text::jinja
