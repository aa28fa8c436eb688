#pragma once
// Parses the expressions of a Jinja template. Private to this folder.

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja_lexer.h"
#include "text/jinja_syntax.h"

namespace drystone::text::jinja {

/// Walks over the tokens of a template; statements are for its owner. Everything throws
/// core::ConfigError `line N: …` at what it does not expect.
class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& peek() const { return tokens_[position_]; }
  const Token& next();
  int line() const { return peek().line; }
  [[noreturn]] void fail(const std::string& problem) const { fail_at(line(), problem); }

  void expect(Token::Kind kind, std::string_view shown);
  std::string name();
  void expect_name(std::string_view name);
  bool skip_name(std::string_view name);
  void expect_operator(std::string_view text);
  bool skip_operator(std::string_view text);

  ExprPtr expression();
  /// Leaves an `if` behind it alone.
  ExprPtr expression_without_condition() { return read_or(); }
  /// One expression, or several with commas between them.
  ExprPtr tuple();

 private:
  bool is_name(std::string_view text) const;
  bool is_operator(std::string_view text) const;
  ExprPtr make(Expr::Kind kind, std::vector<ExprPtr> children) const;
  ExprPtr binary(Op op, ExprPtr left, ExprPtr right) const;
  ExprPtr literal(Value value) const;

  using Level = ExprPtr (ExpressionParser::*)();
  using Operators = std::initializer_list<std::pair<std::string_view, Op>>;
  ExprPtr read_binary(Level operand, Operators operators);

  ExprPtr read_or();
  ExprPtr read_and();
  ExprPtr read_not();
  ExprPtr read_compare();
  bool read_compare_op(Op& op);
  ExprPtr read_sum();
  ExprPtr read_concat();
  ExprPtr read_product();
  ExprPtr read_power();
  ExprPtr read_unary() { return read_unary(true); }
  ExprPtr read_unary(bool with_filters);
  ExprPtr read_primary();
  ExprPtr read_name();
  ExprPtr read_number();
  ExprPtr read_parentheses();
  ExprPtr read_list();
  ExprPtr read_dict();
  ExprPtr read_postfix(ExprPtr expr);
  ExprPtr read_subscript(ExprPtr object);
  ExprPtr read_filters(ExprPtr expr);
  ExprPtr read_test(ExprPtr operand);
  bool begins_test_argument() const;
  void read_arguments(Expr& call);
  std::string read_dotted_name();

  std::vector<Token> tokens_;
  std::size_t position_ = 0;
  int depth_ = 0;
};

}  // namespace drystone::text::jinja
