#pragma once
// Syntax trees of Jinja templates, and the parser's entry. Private to this folder.

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja_value.h"

namespace drystone::text::jinja {

enum class Op {
  Add,
  Subtract,
  Multiply,
  Divide,
  FloorDivide,
  Modulo,
  Power,
  Concat,
  Equal,
  NotEqual,
  Less,
  LessEqual,
  Greater,
  GreaterEqual,
  In,
  NotIn,
  And,
  Or,
  Not,
  Negate,
  Plus
};

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

/// What `children` are depends on the kind; absent parts are null.
struct Expr {
  enum class Kind {
    Literal,      ///< literal
    Name,         ///< name
    Attribute,    ///< {object}.name
    Item,         ///< {object, index}
    Slice,        ///< {object, begin, end, step}
    Call,         ///< {callee, arguments…}, named
    Filter,       ///< {operand, arguments…} | name, named
    Test,         ///< {operand, arguments…} is name
    Unary,        ///< op {operand}
    Binary,       ///< {left, right}
    Compare,      ///< {first, …}: ops between them, as Python chains them
    Conditional,  ///< {condition, then, else}
    ListOf,       ///< items; tuples too
    DictOf,       ///< {key, value, key, value, …}
  };

  Kind kind = Kind::Literal;
  int line = 0;
  int depth = 1;
  Op op = Op::Add;
  std::string name;
  Value literal;
  std::vector<ExprPtr> children;
  std::vector<std::pair<std::string, ExprPtr>> named;
  std::vector<Op> ops;
};

struct Node;
using NodePtr = std::unique_ptr<Node>;
using Block = std::vector<NodePtr>;

struct MacroNode {
  std::string name;
  std::vector<std::pair<std::string, ExprPtr>> parameters;  ///< default or null
  Block body;
};

/// A statement.
struct Node {
  enum class Kind {
    Text,        ///< text
    Output,      ///< {{ expr }}
    If,          ///< branches: condition (null: else) and body
    For,         ///< targets in expr [if condition]: body, otherwise
    Set,         ///< targets = expr; targets[0].attribute = expr
    SetBlock,    ///< targets[0] = what body writes
    Macro,       ///< macro
    Generation,  ///< body, an answer of the assistant
    Break,
    Continue,
  };

  Kind kind = Kind::Text;
  int line = 0;
  std::string text;
  ExprPtr expr;
  ExprPtr condition;
  std::vector<std::string> targets;
  std::string attribute;
  std::vector<std::pair<ExprPtr, Block>> branches;
  Block body;
  Block otherwise;
  MacroNode macro;
};

/// With trim_blocks and lstrip_blocks, as transformers sets them.
/// @throws core::ConfigError  `line N: …`: not Jinja, a tag that is not supported, nested too deep
Block parse(std::string_view source);

}  // namespace drystone::text::jinja
