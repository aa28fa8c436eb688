#include "text/jinja_expressions.h"

#include <algorithm>
#include <charconv>

#include "core/text.h"

namespace drystone::text::jinja {

namespace {

constexpr int kMaxDepth = 128;

template <typename... Parts>
std::vector<ExprPtr> children(Parts... parts) {
  std::vector<ExprPtr> result;
  (result.push_back(std::move(parts)), ...);
  return result;
}

void adopt_depth(Expr& expr, const Expr* child) {
  if (child != nullptr) expr.depth = std::max(expr.depth, child->depth + 1);
  if (expr.depth > kMaxDepth) fail_at(expr.line, "an expression is nested too deep");
}

/// Guards the parser's own recursion.
class Descent {
 public:
  Descent(int& depth, int line) : depth_(depth) {
    if (++depth_ > kMaxDepth) fail_at(line, "an expression is nested too deep");
  }
  ~Descent() { --depth_; }
  Descent(const Descent&) = delete;
  Descent& operator=(const Descent&) = delete;

 private:
  int& depth_;
};

}  // namespace

const Token& ExpressionParser::next() {
  const Token& token = peek();
  if (token.kind != Token::Kind::End) ++position_;
  return token;
}

bool ExpressionParser::is_name(std::string_view text) const {
  return peek().kind == Token::Kind::Name && peek().text == text;
}

bool ExpressionParser::is_operator(std::string_view text) const {
  return peek().kind == Token::Kind::Operator && peek().text == text;
}

void ExpressionParser::expect(Token::Kind kind, std::string_view shown) {
  if (peek().kind != kind) fail("expected " + std::string(shown));
  next();
}

std::string ExpressionParser::name() {
  if (peek().kind != Token::Kind::Name) fail("expected a name");
  return next().text;
}

void ExpressionParser::expect_name(std::string_view text) {
  if (!skip_name(text)) fail("expected " + core::quote(text));
}

bool ExpressionParser::skip_name(std::string_view text) {
  if (!is_name(text)) return false;
  next();
  return true;
}

void ExpressionParser::expect_operator(std::string_view text) {
  if (!skip_operator(text)) fail("expected " + core::quote(text));
}

bool ExpressionParser::skip_operator(std::string_view text) {
  if (!is_operator(text)) return false;
  next();
  return true;
}

ExprPtr ExpressionParser::make(Expr::Kind kind, std::vector<ExprPtr> parts) const {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->line = line();
  expr->children = std::move(parts);
  for (const ExprPtr& child : expr->children) adopt_depth(*expr, child.get());
  return expr;
}

ExprPtr ExpressionParser::literal(Value value) const {
  ExprPtr expr = make(Expr::Kind::Literal, {});
  expr->literal = std::move(value);
  return expr;
}

ExprPtr ExpressionParser::binary(Op op, ExprPtr left, ExprPtr right) const {
  ExprPtr expr = make(Expr::Kind::Binary, children(std::move(left), std::move(right)));
  expr->op = op;
  return expr;
}

ExprPtr ExpressionParser::expression() {
  const Descent descent(depth_, line());
  ExprPtr expr = read_or();
  while (skip_name("if")) {
    ExprPtr condition = read_or();
    ExprPtr otherwise = skip_name("else") ? expression() : nullptr;
    expr = make(Expr::Kind::Conditional,
                children(std::move(condition), std::move(expr), std::move(otherwise)));
  }
  return expr;
}

ExprPtr ExpressionParser::tuple() {
  ExprPtr first = expression();
  if (!is_operator(",")) return first;
  std::vector<ExprPtr> items = children(std::move(first));
  while (skip_operator(",")) {
    if (peek().kind == Token::Kind::BlockEnd || is_operator(")")) break;
    items.push_back(expression());
  }
  return make(Expr::Kind::ListOf, std::move(items));
}

ExprPtr ExpressionParser::read_or() {
  ExprPtr left = read_and();
  while (skip_name("or")) left = binary(Op::Or, std::move(left), read_and());
  return left;
}

ExprPtr ExpressionParser::read_and() {
  ExprPtr left = read_not();
  while (skip_name("and")) left = binary(Op::And, std::move(left), read_not());
  return left;
}

ExprPtr ExpressionParser::read_not() {
  const Descent descent(depth_, line());
  if (!skip_name("not")) return read_compare();
  ExprPtr expr = make(Expr::Kind::Unary, children(read_not()));
  expr->op = Op::Not;
  return expr;
}

bool ExpressionParser::read_compare_op(Op& op) {
  static constexpr std::pair<std::string_view, Op> kOperators[] = {
      {"==", Op::Equal},     {"!=", Op::NotEqual}, {"<", Op::Less},
      {"<=", Op::LessEqual}, {">", Op::Greater},   {">=", Op::GreaterEqual}};
  for (const auto& [text, value] : kOperators) {
    if (!skip_operator(text)) continue;
    op = value;
    return true;
  }
  if (skip_name("in")) {
    op = Op::In;
    return true;
  }
  const Token& behind = tokens_[std::min(position_ + 1, tokens_.size() - 1)];
  if (!is_name("not") || behind.kind != Token::Kind::Name || behind.text != "in") return false;
  position_ += 2;
  op = Op::NotIn;
  return true;
}

ExprPtr ExpressionParser::read_compare() {
  ExprPtr first = read_sum();
  std::vector<ExprPtr> operands = children(std::move(first));
  std::vector<Op> ops;
  for (Op op{}; read_compare_op(op);) {
    ops.push_back(op);
    operands.push_back(read_sum());
  }
  if (ops.empty()) return std::move(operands.front());
  ExprPtr expr = make(Expr::Kind::Compare, std::move(operands));
  expr->ops = std::move(ops);
  return expr;
}

ExprPtr ExpressionParser::read_binary(Level operand, Operators operators) {
  ExprPtr left = (this->*operand)();
  for (;;) {
    const auto found = std::ranges::find_if(
        operators, [this](const auto& entry) { return is_operator(entry.first); });
    if (found == operators.end()) return left;
    next();
    left = binary(found->second, std::move(left), (this->*operand)());
  }
}

ExprPtr ExpressionParser::read_sum() {
  return read_binary(&ExpressionParser::read_concat, {{"+", Op::Add}, {"-", Op::Subtract}});
}

ExprPtr ExpressionParser::read_concat() {
  return read_binary(&ExpressionParser::read_product, {{"~", Op::Concat}});
}

ExprPtr ExpressionParser::read_product() {
  return read_binary(
      &ExpressionParser::read_power,
      {{"*", Op::Multiply}, {"/", Op::Divide}, {"//", Op::FloorDivide}, {"%", Op::Modulo}});
}

ExprPtr ExpressionParser::read_power() {
  return read_binary(&ExpressionParser::read_unary, {{"**", Op::Power}});
}

ExprPtr ExpressionParser::read_unary(bool with_filters) {
  const Descent descent(depth_, line());
  ExprPtr expr;
  if (is_operator("-") || is_operator("+")) {
    const Op op = next().text == "-" ? Op::Negate : Op::Plus;
    expr = make(Expr::Kind::Unary, children(read_unary(false)));
    expr->op = op;
  } else {
    expr = read_primary();
  }
  expr = read_postfix(std::move(expr));
  return with_filters ? read_filters(std::move(expr)) : std::move(expr);
}

ExprPtr ExpressionParser::read_primary() {
  switch (peek().kind) {
    case Token::Kind::Name: return read_name();
    case Token::Kind::Integer:
    case Token::Kind::Real: return read_number();
    case Token::Kind::String: {
      std::string text;
      while (peek().kind == Token::Kind::String) text += next().text;
      return literal(Value(std::move(text)));
    }
    default: break;
  }
  if (skip_operator("(")) return read_parentheses();
  if (skip_operator("[")) return read_list();
  if (skip_operator("{")) return read_dict();
  fail("expected a value");
}

ExprPtr ExpressionParser::read_name() {
  const std::string text = name();
  if (text == "true" || text == "True") return literal(Value(true));
  if (text == "false" || text == "False") return literal(Value(false));
  if (text == "none" || text == "None") return literal(Value::none());
  ExprPtr expr = make(Expr::Kind::Name, {});
  expr->name = text;
  return expr;
}

ExprPtr ExpressionParser::read_number() {
  const bool is_real = peek().kind == Token::Kind::Real;
  const std::string digits = next().text;
  const char* const begin = digits.data();
  const char* const end = begin + digits.size();
  std::int64_t whole = 0;
  double real = 0.0;
  const auto result =
      is_real ? std::from_chars(begin, end, real) : std::from_chars(begin, end, whole);
  if (result.ec != std::errc() || result.ptr != end) fail("number " + digits + " is out of range");
  return literal(is_real ? Value(real) : Value(whole));
}

ExprPtr ExpressionParser::read_parentheses() {
  if (skip_operator(")")) return make(Expr::Kind::ListOf, {});
  ExprPtr expr = tuple();
  expect_operator(")");
  return expr;
}

ExprPtr ExpressionParser::read_list() {
  std::vector<ExprPtr> items;
  while (!skip_operator("]")) {
    if (!items.empty()) {
      expect_operator(",");
      if (skip_operator("]")) break;
    }
    items.push_back(expression());
  }
  return make(Expr::Kind::ListOf, std::move(items));
}

ExprPtr ExpressionParser::read_dict() {
  std::vector<ExprPtr> entries;
  while (!skip_operator("}")) {
    if (!entries.empty()) {
      expect_operator(",");
      if (skip_operator("}")) break;
    }
    entries.push_back(expression());
    expect_operator(":");
    entries.push_back(expression());
  }
  return make(Expr::Kind::DictOf, std::move(entries));
}

ExprPtr ExpressionParser::read_postfix(ExprPtr expr) {
  for (;;) {
    if (skip_operator(".")) {
      const bool is_index = peek().kind == Token::Kind::Integer;
      if (is_index) {
        expr = make(Expr::Kind::Item, children(std::move(expr), read_number()));
      } else {
        const std::string attribute = name();
        expr = make(Expr::Kind::Attribute, children(std::move(expr)));
        expr->name = attribute;
      }
    } else if (skip_operator("[")) {
      expr = read_subscript(std::move(expr));
    } else if (skip_operator("(")) {
      expr = make(Expr::Kind::Call, children(std::move(expr)));
      read_arguments(*expr);
    } else {
      return expr;
    }
  }
}

ExprPtr ExpressionParser::read_subscript(ExprPtr object) {
  ExprPtr parts[3];
  std::size_t count = 0;
  if (!is_operator(":")) parts[0] = expression();
  while (count < 2 && skip_operator(":")) {
    ++count;
    if (!is_operator(":") && !is_operator("]")) parts[count] = expression();
  }
  expect_operator("]");
  if (count == 0) return make(Expr::Kind::Item, children(std::move(object), std::move(parts[0])));
  return make(Expr::Kind::Slice, children(std::move(object), std::move(parts[0]),
                                          std::move(parts[1]), std::move(parts[2])));
}

std::string ExpressionParser::read_dotted_name() {
  std::string text = name();
  while (skip_operator(".")) text += "." + name();
  return text;
}

ExprPtr ExpressionParser::read_filters(ExprPtr expr) {
  for (;;) {
    if (skip_operator("|")) {
      const std::string filter = read_dotted_name();
      expr = make(Expr::Kind::Filter, children(std::move(expr)));
      expr->name = filter;
      if (skip_operator("(")) read_arguments(*expr);
    } else if (skip_name("is")) {
      expr = read_test(std::move(expr));
    } else if (skip_operator("(")) {
      expr = make(Expr::Kind::Call, children(std::move(expr)));
      read_arguments(*expr);
    } else {
      return expr;
    }
  }
}

bool ExpressionParser::begins_test_argument() const {
  switch (peek().kind) {
    case Token::Kind::Name: {
      static constexpr std::string_view kBehind[] = {"else", "or", "and", "if", "is", "not", "in"};
      return std::ranges::find(kBehind, peek().text) == std::end(kBehind);
    }
    case Token::Kind::String:
    case Token::Kind::Integer:
    case Token::Kind::Real: return true;
    default: return is_operator("[") || is_operator("{");
  }
}

ExprPtr ExpressionParser::read_test(ExprPtr operand) {
  const bool is_negated = skip_name("not");
  const std::string test = read_dotted_name();
  ExprPtr expr = make(Expr::Kind::Test, children(std::move(operand)));
  expr->name = test;
  if (skip_operator("(")) {
    read_arguments(*expr);
  } else if (begins_test_argument()) {
    expr->children.push_back(read_postfix(read_primary()));
    adopt_depth(*expr, expr->children.back().get());
  }
  if (!is_negated) return expr;
  expr = make(Expr::Kind::Unary, children(std::move(expr)));
  expr->op = Op::Not;
  return expr;
}

void ExpressionParser::read_arguments(Expr& call) {
  for (bool is_first = true; !skip_operator(")"); is_first = false) {
    if (!is_first) {
      expect_operator(",");
      if (skip_operator(")")) return;
    }
    const Token& behind = tokens_[std::min(position_ + 1, tokens_.size() - 1)];
    const bool is_named = peek().kind == Token::Kind::Name &&
                          behind.kind == Token::Kind::Operator && behind.text == "=";
    std::string argument;
    if (is_named) {
      argument = name();
      next();
    } else if (!call.named.empty()) {
      fail("an argument without a name behind one with a name");
    }
    ExprPtr value = expression();
    adopt_depth(call, value.get());
    if (is_named) {
      call.named.emplace_back(std::move(argument), std::move(value));
    } else {
      call.children.push_back(std::move(value));
    }
  }
}

}  // namespace drystone::text::jinja
