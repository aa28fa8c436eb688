#include <algorithm>
#include <charconv>
#include <limits>

#include "core/text.h"
#include "text/jinja_expressions.h"
#include "text/jinja_lexer.h"
#include "text/jinja_syntax.h"

namespace drystone::text::jinja {

namespace {

constexpr int kMaxNesting = 64;

class StatementParser {
 public:
  explicit StatementParser(std::string_view source) : tokens_(tokenize(source)) {}

  Block run() {
    Block block = read_block({});
    return block;
  }

 private:
  using Ends = std::vector<std::string>;

  NodePtr make(Node::Kind kind) const {
    auto node = std::make_unique<Node>();
    node->kind = kind;
    node->line = tokens_.line();
    return node;
  }

  /// Up to a tag whose name is among `ends`, which is left to be read; without ends, to the end.
  Block read_block(const Ends& ends) {
    const Nesting nesting(depth_, tokens_.line());
    Block block;
    for (;;) {
      const Token& token = tokens_.peek();
      if (token.kind == Token::Kind::End) {
        if (ends.empty()) return block;
        tokens_.fail("a block is never closed; add {% " + ends.back() + " %}");
      }
      if (token.kind == Token::Kind::Text) {
        block.push_back(make(Node::Kind::Text));
        block.back()->text = tokens_.next().text;
      } else if (token.kind == Token::Kind::OutputBegin) {
        tokens_.next();
        block.push_back(make(Node::Kind::Output));
        block.back()->expr = tokens_.expression();
        tokens_.expect(Token::Kind::OutputEnd, "}}");
      } else {
        tokens_.expect(Token::Kind::BlockBegin, "{%");
        if (std::ranges::find(ends, tokens_.peek().text) != ends.end()) return block;
        block.push_back(read_statement());
      }
    }
  }

  void end_tag() { tokens_.expect(Token::Kind::BlockEnd, "%}"); }

  /// The name of the tag that ended a block, and the end of that tag.
  void close(const std::string& name) {
    tokens_.expect_name(name);
    end_tag();
  }

  NodePtr read_statement() {
    const std::string name = tokens_.name();
    if (name == "if") return read_if();
    if (name == "for") return read_for();
    if (name == "set") return read_set();
    if (name == "macro") return read_macro();
    if (name == "generation") return read_generation();
    if (name == "break" || name == "continue") {
      if (loops_ == 0) tokens_.fail(name + " outside of a loop");
      NodePtr node = make(name == "break" ? Node::Kind::Break : Node::Kind::Continue);
      end_tag();
      return node;
    }
    tokens_.fail("tag " + core::quote(name) +
                 " is not supported; supported: if, for, set, macro, break, continue, generation, "
                 "raw");
  }

  NodePtr read_if() {
    NodePtr node = make(Node::Kind::If);
    ExprPtr condition = tokens_.expression();
    for (;;) {
      end_tag();
      Block body = read_block({"elif", "else", "endif"});
      const bool was_else = condition == nullptr;
      node->branches.emplace_back(std::move(condition), std::move(body));
      const std::string name = tokens_.name();
      if (name == "endif") break;
      if (was_else) tokens_.fail(name + " behind else");
      condition = name == "elif" ? tokens_.expression() : nullptr;
    }
    end_tag();
    return node;
  }

  NodePtr read_for() {
    NodePtr node = make(Node::Kind::For);
    node->targets = read_targets();
    tokens_.expect_name("in");
    node->expr = tokens_.expression_without_condition();
    if (tokens_.skip_name("if")) node->condition = tokens_.expression();
    if (tokens_.skip_name("recursive")) tokens_.fail("recursive loops are not supported");
    end_tag();
    ++loops_;
    node->body = read_block({"else", "endfor"});
    --loops_;
    if (tokens_.skip_name("else")) {
      end_tag();
      node->otherwise = read_block({"endfor"});
    }
    close("endfor");
    return node;
  }

  std::vector<std::string> read_targets() {
    const bool has_parenthesis = tokens_.skip_operator("(");
    std::vector<std::string> targets = {tokens_.name()};
    while (tokens_.skip_operator(",")) targets.push_back(tokens_.name());
    if (has_parenthesis) tokens_.expect_operator(")");
    return targets;
  }

  NodePtr read_set() {
    NodePtr node = make(Node::Kind::Set);
    node->targets = read_targets();
    if (node->targets.size() == 1 && tokens_.skip_operator(".")) node->attribute = tokens_.name();
    if (tokens_.skip_operator("=")) {
      node->expr = tokens_.tuple();
      end_tag();
      return node;
    }
    if (node->targets.size() > 1 || !node->attribute.empty()) tokens_.expect_operator("=");
    node->kind = Node::Kind::SetBlock;
    end_tag();
    node->body = read_block({"endset"});
    close("endset");
    return node;
  }

  NodePtr read_macro() {
    NodePtr node = make(Node::Kind::Macro);
    node->macro.name = tokens_.name();
    tokens_.expect_operator("(");
    while (!tokens_.skip_operator(")")) {
      if (!node->macro.parameters.empty()) tokens_.expect_operator(",");
      std::string parameter = tokens_.name();
      ExprPtr standard = tokens_.skip_operator("=") ? tokens_.expression() : nullptr;
      node->macro.parameters.emplace_back(std::move(parameter), std::move(standard));
    }
    end_tag();
    const int outer_loops = std::exchange(loops_, 0);
    node->macro.body = read_block({"endmacro"});
    loops_ = outer_loops;
    close("endmacro");
    return node;
  }

  NodePtr read_generation() {
    NodePtr node = make(Node::Kind::Generation);
    end_tag();
    const int outer_loops = std::exchange(loops_, 0);
    node->body = read_block({"endgeneration"});
    loops_ = outer_loops;
    close("endgeneration");
    return node;
  }

  ExpressionParser tokens_;
  int depth_ = 0;
  int loops_ = 0;

  friend class Nesting;
  class Nesting {
   public:
    Nesting(int& depth, int line) : depth_(depth) {
      if (++depth_ > kMaxNesting) fail_at(line, "blocks are nested too deep");
    }
    ~Nesting() { --depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    int& depth_;
  };
};

}  // namespace

Block parse(std::string_view source) {
  constexpr std::size_t kMaxSource = std::size_t{1} << 20;
  if (source.size() > kMaxSource) fail_at(1, "a template of more than 1 MiB");
  return StatementParser(source).run();
}

}  // namespace drystone::text::jinja
