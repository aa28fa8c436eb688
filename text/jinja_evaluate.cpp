// The expressions of Jinja, with Python's rules.

#include <cmath>

#include "core/text.h"
#include "text/jinja_machine.h"
#include "text/jinja_text.h"

namespace drystone::text::jinja {

namespace {

class DepthGuard {
 public:
  explicit DepthGuard(int& depth) : depth_(depth) { ++depth_; }
  ~DepthGuard() { --depth_; }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;

 private:
  int& depth_;
};

std::string op_name(Op op) {
  switch (op) {
    case Op::Add: return "+";
    case Op::Subtract: return "-";
    case Op::Multiply: return "*";
    case Op::Divide: return "/";
    case Op::FloorDivide: return "//";
    case Op::Modulo: return "%";
    case Op::Power: return "**";
    default: return "this operator";
  }
}

}  // namespace

Value Machine::evaluate(const Expr& expr) {
  constexpr int kMaxDepth = 600;
  const DepthGuard guard(depth_);
  line_ = expr.line;
  if (depth_ > kMaxDepth) fail("nested too deep");
  charge(0);
  switch (expr.kind) {
    case Expr::Kind::Literal: return expr.literal;
    case Expr::Kind::Name: return look_up(expr.name);
    case Expr::Kind::Attribute: return attribute(evaluate(*expr.children[0]), expr.name);
    case Expr::Kind::Item: {
      const Value object = evaluate(*expr.children[0]);
      return item(object, evaluate(*expr.children[1]));
    }
    case Expr::Kind::Slice: return evaluate_slice(expr);
    case Expr::Kind::Call: return evaluate_call(expr);
    case Expr::Kind::Filter: {
      const Value operand = evaluate(*expr.children[0]);
      return apply_filter(*this, expr.name, operand, arguments(expr));
    }
    case Expr::Kind::Test: {
      const Value operand = evaluate(*expr.children[0]);
      return Value(apply_test(*this, expr.name, operand, arguments(expr)));
    }
    case Expr::Kind::Unary: return evaluate_unary(expr);
    case Expr::Kind::Binary: return evaluate_binary(expr);
    case Expr::Kind::Compare: return evaluate_compare(expr);
    case Expr::Kind::Conditional:
      if (evaluate(*expr.children[0]).truth()) return evaluate(*expr.children[1]);
      return expr.children[2] == nullptr ? Value() : evaluate(*expr.children[2]);
    case Expr::Kind::ListOf: {
      List items;
      for (const ExprPtr& child : expr.children) items.push_back(evaluate(*child));
      return list(std::move(items));
    }
    case Expr::Kind::DictOf: return evaluate_dict(expr);
  }
  fail("unknown expression");
}

Value Machine::look_up(const std::string& name) {
  if (const Value* const found = find_variable(name)) return *found;
  if (const Value* const found = variables_.find(name)) return *found;
  return find_function(name);
}

/// All children but the first, which is the operand or callee.
Arguments Machine::arguments(const Expr& expr) {
  Arguments result;
  for (std::size_t i = 1; i < expr.children.size(); ++i) {
    result.positional.push_back(evaluate(*expr.children[i]));
  }
  for (const auto& [name, value] : expr.named) result.named.emplace_back(name, evaluate(*value));
  line_ = expr.line;
  return result;
}

Value Machine::evaluate_call(const Expr& expr) {
  const Expr& callee = *expr.children[0];
  if (callee.kind != Expr::Kind::Attribute) {
    const Value function = evaluate(callee);
    if (const auto* missing = function.undefined())
      fail(core::quote(missing->name) + " is undefined");
    return call(function, arguments(expr));
  }
  const Value object = evaluate(*callee.children[0]);
  if (const auto* missing = object.undefined()) fail(core::quote(missing->name) + " is undefined");
  const Dict* const dict = object.dict();
  const Value* const held = dict == nullptr ? nullptr : find(*dict, callee.name);
  if (held != nullptr && held->function() != nullptr) return call(*held, arguments(expr));
  return call_method(*this, object, callee.name, arguments(expr));
}

Value Machine::attribute(const Value& object, const std::string& name) {
  if (const auto* missing = object.undefined()) fail(core::quote(missing->name) + " is undefined");
  const Dict* const dict = object.dict();
  const Value* const found = dict == nullptr ? nullptr : find(*dict, name);
  return found == nullptr ? Value::undefined(name) : *found;
}

Value Machine::item(const Value& object, const Value& index) {
  if (const auto* missing = object.undefined()) fail(core::quote(missing->name) + " is undefined");
  if (const std::string* name = index.text()) return attribute(object, *name);
  const auto place = index.as_integer();
  if (!place) return Value::undefined(string_of(index));
  const auto inside = [&](std::size_t size) {
    const auto count = static_cast<std::int64_t>(size);
    return *place >= -count && *place < count;
  };
  const auto position = [&](std::size_t size) {
    return static_cast<std::size_t>(*place < 0 ? *place + static_cast<std::int64_t>(size) : *place);
  };
  if (const List* items = object.list()) {
    if (inside(items->size())) return (*items)[position(items->size())];
  } else if (const std::string* string = object.text()) {
    work_on(object);
    const auto all = characters(*string);
    if (inside(all.size())) return text(std::string(all[position(all.size())]));
  }
  return Value::undefined(std::to_string(*place));
}

Value Machine::evaluate_slice(const Expr& expr) {
  const Value object = evaluate(*expr.children[0]);
  std::optional<std::int64_t> bounds[3];
  for (std::size_t i = 0; i < 3; ++i) {
    if (expr.children[i + 1] == nullptr) continue;
    const Value bound = evaluate(*expr.children[i + 1]);
    bounds[i] = bound.as_integer();
    if (!bounds[i] && !bound.is_none()) fail("a slice needs integers");
  }
  const std::int64_t step = bounds[2].value_or(1);
  if (step == 0) fail("a slice needs a step other than 0");
  work_on(object);
  if (const std::string* string = object.text()) {
    const auto all = characters(*string);
    std::string result;
    for (const std::size_t i : slice_positions(all.size(), bounds[0], bounds[1], step)) {
      result += all[i];
    }
    return text(std::move(result));
  }
  if (object.is_undefined()) fail(core::quote(object.undefined()->name) + " is undefined");
  const List* const items = object.list();
  if (items == nullptr) return Value::undefined("slice");
  List result;
  for (const std::size_t i : slice_positions(items->size(), bounds[0], bounds[1], step)) {
    result.push_back((*items)[i]);
  }
  return list(std::move(result));
}

Value Machine::evaluate_dict(const Expr& expr) {
  Dict dict;
  for (std::size_t i = 0; i < expr.children.size(); i += 2) {
    const Value key = evaluate(*expr.children[i]);
    if (key.text() == nullptr) fail("keys of a dict must be strings");
    set(dict, *key.text(), evaluate(*expr.children[i + 1]));
  }
  charge_items(dict.entries.size());
  return Value(std::move(dict));
}

Value Machine::evaluate_unary(const Expr& expr) {
  const Value operand = evaluate(*expr.children[0]);
  if (expr.op == Op::Not) return Value(!operand.truth());
  const Value zero(std::int64_t{0});
  return arithmetic(expr.op == Op::Negate ? Op::Subtract : Op::Add, zero, operand);
}

Value Machine::evaluate_binary(const Expr& expr) {
  Value left = evaluate(*expr.children[0]);
  if (expr.op == Op::And) return left.truth() ? evaluate(*expr.children[1]) : left;
  if (expr.op == Op::Or) return left.truth() ? left : evaluate(*expr.children[1]);
  const Value right = evaluate(*expr.children[1]);
  line_ = expr.line;
  if (expr.op == Op::Concat) return text(string_of(left) + string_of(right));
  return arithmetic(expr.op, left, right);
}

Value Machine::evaluate_compare(const Expr& expr) {
  Value left = evaluate(*expr.children[0]);
  for (std::size_t i = 0; i < expr.ops.size(); ++i) {
    Value right = evaluate(*expr.children[i + 1]);
    if (!compare(expr.ops[i], left, right)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

bool Machine::is_less(const Value& a, const Value& b) {
  const auto result = less(a, b, work_left_);
  if (!result) fail(a.type_name() + " and " + b.type_name() + " cannot be ordered");
  return *result;
}

bool Machine::compare(Op op, const Value& a, const Value& b) {
  switch (op) {
    case Op::Equal: return is_equal(a, b);
    case Op::NotEqual: return !is_equal(a, b);
    case Op::Less: return is_less(a, b);
    case Op::Greater: return is_less(b, a);
    case Op::LessEqual: return is_less(a, b) || is_equal(a, b);
    case Op::GreaterEqual: return is_less(b, a) || is_equal(a, b);
    case Op::In: return contains(b, a);
    default: return !contains(b, a);
  }
}

bool Machine::contains(const Value& container, const Value& item) {
  if (container.is_undefined()) return false;
  if (const std::string* string = container.text()) {
    if (item.text() == nullptr) fail("cannot look for " + item.type_name() + " in str");
    work_on(container);
    return find_text(*string, *item.text()) != std::string::npos;
  }
  if (const List* items = container.list()) {
    charge(items->size());
    for (const Value& held : *items) {
      if (is_equal(held, item)) return true;
    }
    return false;
  }
  const Dict* const dict = container.dict();
  if (dict == nullptr) fail("cannot look for something in " + container.type_name());
  return item.text() != nullptr && find(*dict, *item.text()) != nullptr;
}

Value Machine::arithmetic(Op op, const Value& a, const Value& b) {
  for (const Value* value : {&a, &b}) {
    if (const auto* missing = value->undefined())
      fail(core::quote(missing->name) + " is undefined");
  }
  const auto i = a.as_integer();
  const auto j = b.as_integer();
  if (i && j) return whole_arithmetic(op, *i, *j);
  const auto x = a.as_number();
  const auto y = b.as_number();
  if (x && y) return real_arithmetic(op, *x, *y);
  if (op == Op::Add) return add(a, b);
  if (op == Op::Multiply && j) return repeat(a, *j);
  if (op == Op::Multiply && i) return repeat(b, *i);
  fail(op_name(op) + " does not take " + a.type_name() + " and " + b.type_name());
}

Value Machine::add(const Value& a, const Value& b) {
  if (a.text() != nullptr && b.text() != nullptr) {
    charge(a.text()->size() + b.text()->size());
    return Value(*a.text() + *b.text());
  }
  if (a.list() == nullptr || b.list() == nullptr) {
    fail("+ does not take " + a.type_name() + " and " + b.type_name());
  }
  charge_items(a.list()->size() + b.list()->size());
  List joined = *a.list();
  joined.insert(joined.end(), b.list()->begin(), b.list()->end());
  return Value(std::move(joined));
}

Value Machine::repeat(const Value& value, std::int64_t times) {
  constexpr std::int64_t kMaxTimes = 1 << 24;
  if (times > kMaxTimes) fail("repeats a value too often");
  const auto count = static_cast<std::size_t>(std::max<std::int64_t>(times, 0));
  if (const std::string* string = value.text()) {
    charge(string->size() * count);
    std::string result;
    for (std::size_t i = 0; i < count && !string->empty(); ++i) result += *string;
    return Value(std::move(result));
  }
  if (value.list() == nullptr) fail("* does not take " + value.type_name());
  charge_items(value.list()->size() * count);
  List result;
  for (std::size_t i = 0; i < count && !value.list()->empty(); ++i) {
    result.insert(result.end(), value.list()->begin(), value.list()->end());
  }
  return Value(std::move(result));
}

Value Machine::whole_arithmetic(Op op, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  bool overflows = false;
  if (op == Op::Divide || (op == Op::Power && b < 0)) {
    return real_arithmetic(op, static_cast<double>(a), static_cast<double>(b));
  }
  if (op == Op::Add) overflows = __builtin_add_overflow(a, b, &result);
  if (op == Op::Subtract) overflows = __builtin_sub_overflow(a, b, &result);
  if (op == Op::Multiply) overflows = __builtin_mul_overflow(a, b, &result);
  if (op == Op::Power) {
    result = 1;
    for (std::int64_t i = 0; i < b && !overflows && result != 0 && (a != 1); ++i) {
      overflows = __builtin_mul_overflow(result, a, &result);
      if (a == -1 && i > 64) overflows = true;
    }
  }
  if (op == Op::FloorDivide || op == Op::Modulo) {
    if (b == 0) fail("division by zero");
    if (b == -1) return whole_arithmetic(Op::Multiply, op == Op::Modulo ? 0 : -1, a);
    const std::int64_t rest = a % b;
    const bool rounds_down = rest != 0 && (rest < 0) != (b < 0);
    result = op == Op::Modulo ? rest + (rounds_down ? b : 0) : a / b - (rounds_down ? 1 : 0);
  }
  if (overflows) fail("a number is too large");
  return Value(result);
}

Value Machine::real_arithmetic(Op op, double a, double b) {
  if (b == 0.0 && (op == Op::Divide || op == Op::FloorDivide || op == Op::Modulo)) {
    fail("division by zero");
  }
  switch (op) {
    case Op::Add: return Value(a + b);
    case Op::Subtract: return Value(a - b);
    case Op::Multiply: return Value(a * b);
    case Op::Divide: return Value(a / b);
    case Op::FloorDivide: return Value(std::floor(a / b));
    case Op::Power: return Value(std::pow(a, b));
    default: {
      const double rest = std::fmod(a, b);
      return Value(rest != 0.0 && (rest < 0.0) != (b < 0.0) ? rest + b : rest);
    }
  }
}

}  // namespace drystone::text::jinja
