#include "text/jinja_machine.h"

#include <algorithm>

#include "core/text.h"
#include "text/jinja_lexer.h"
#include "text/jinja_text.h"

namespace drystone::text::jinja {

namespace {

constexpr std::size_t kMaxSteps = 10'000'000;
constexpr std::size_t kMaxWork = std::size_t{1} << 29;  // two seconds or so
constexpr std::size_t kStepWork = 32;
constexpr std::size_t kMaxBytes = std::size_t{256} << 20;
constexpr std::size_t kMaxValueBytes = std::size_t{16} << 20;
constexpr int kMaxDepth = 400;

}  // namespace

Value* Scope::find(std::string_view name) {
  for (auto& [key, value] : variables) {
    if (key == name) return &value;
  }
  return nullptr;
}

void Scope::set(const std::string& name, Value value) {
  for (auto& [key, held] : variables) {
    if (key == name) {
      held = std::move(value);
      return;
    }
  }
  variables.emplace_back(name, std::move(value));
}

/// Counts nesting.
class Machine::Deeper {
 public:
  explicit Deeper(Machine& machine) : machine_(machine) {
    if (++machine_.depth_ > kMaxDepth) {
      --machine_.depth_;
      machine_.fail("nested too deep");
    }
  }
  ~Deeper() { --machine_.depth_; }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;

 private:
  Machine& machine_;
};

/// For its life, writes elsewhere and sees other variables.
class Machine::Redirect {
 public:
  Redirect(Machine& machine, std::string* output, std::shared_ptr<Scope> scope)
      : machine_(machine),
        output_(std::exchange(machine.output_, output)),
        scope_(std::exchange(machine.scope_, std::move(scope))) {}
  ~Redirect() {
    machine_.output_ = output_;
    machine_.scope_ = std::move(scope_);
  }
  Redirect(const Redirect&) = delete;
  Redirect& operator=(const Redirect&) = delete;

 private:
  Machine& machine_;
  std::string* output_;
  std::shared_ptr<Scope> scope_;
};

Machine::Machine(const Dict& variables, std::time_t now)
    : variables_(variables), now_(now), work_left_(kMaxWork) {
  scope_ = new_scope(nullptr);
}

Machine::~Machine() {
  for (const auto& weak : scopes_) {
    if (const auto scope = weak.lock()) scope->variables.clear();
  }
  for (const auto& weak : namespaces_) {
    if (const auto dict = weak.lock()) dict->entries.clear();
  }
}

std::shared_ptr<Scope> Machine::new_scope(std::shared_ptr<Scope> parent) {
  charge(sizeof(Scope));
  auto scope = std::make_shared<Scope>(Scope{{}, std::move(parent)});
  scopes_.push_back(scope);
  return scope;
}

Value Machine::make_namespace(Dict attributes) {
  attributes.is_namespace = true;
  charge_items(attributes.entries.size() + 1);
  auto dict = shared(std::move(attributes));
  namespaces_.push_back(dict);
  return Value(std::move(dict));
}

void Machine::fail(const std::string& problem) const { fail_at(line_, problem); }

void Machine::work(std::size_t units) {
  if (units > work_left_) fail("the template takes too much work");
  work_left_ -= units;
}

void Machine::work_on(const Value& value) {
  if (const std::string* text = value.text()) work(text->size());
  if (const List* list = value.list()) work(list->size());
  if (const Dict* dict = value.dict()) work(dict->entries.size());
}

void Machine::work_on(const Arguments& arguments) {
  for (const Value& value : arguments.positional) work_on(value);
  for (const auto& [name, value] : arguments.named) work_on(value);
}

namespace {

/// Of looking for a name among some by comparing it with each.
std::size_t search_work(std::size_t count, std::size_t name_bytes) {
  return count * (1 + name_bytes / 8);
}

}  // namespace

const Value* Machine::find(const Dict& dict, std::string_view key) {
  work(search_work(dict.entries.size(), key.size()));
  return dict.find(key);
}

void Machine::set(Dict& dict, std::string_view key, Value value) {
  work(search_work(dict.entries.size(), key.size()));
  dict.set(key, std::move(value));
}

Value* Machine::find_variable(const std::string& name) {
  for (Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get()) {
    work(search_work(scope->variables.size() + 1, name.size()));
    if (Value* const found = scope->find(name)) return found;
  }
  return nullptr;
}

void Machine::set_variable(const std::string& name, Value value) {
  work(search_work(scope_->variables.size(), name.size()));
  scope_->set(name, std::move(value));
}

std::string Machine::string_of(const Value& value) {
  std::string text = to_text(value);
  work(text.size());
  return text;
}

void Machine::charge(std::size_t bytes) {
  if (++steps_ > kMaxSteps) fail("the template takes too many steps");
  work(kStepWork + bytes);
  const bool is_large = bytes > kMaxValueBytes;
  if (is_large || (bytes_ += bytes) > kMaxBytes) fail("the template makes too much text");
}

Value Machine::text(std::string value) {
  charge(value.size());
  return Value(std::move(value));
}

Value Machine::list(List items) {
  charge_items(items.size());
  return Value(std::move(items));
}

void Machine::write(std::string_view text) {
  charge(text.size());
  *output_ += text;
}

void Machine::run(const Block& block) { execute(block); }

Machine::Flow Machine::execute(const Block& block) {
  const Deeper deeper(*this);
  for (const NodePtr& node : block) {
    if (const Flow flow = execute(*node); flow != Flow::Normal) return flow;
  }
  return Flow::Normal;
}

Machine::Flow Machine::execute(const Node& node) {
  line_ = node.line;
  charge(0);
  switch (node.kind) {
    case Node::Kind::Text: write(node.text); break;
    case Node::Kind::Output: write(string_of(evaluate(*node.expr))); break;
    case Node::Kind::If: return execute_if(node);
    case Node::Kind::For: return execute_for(node);
    case Node::Kind::Set: assign(node, evaluate(*node.expr)); break;
    case Node::Kind::SetBlock: assign(node, Value(captured(node.body))); break;
    case Node::Kind::Macro: {
      Function function;
      function.macro = &node.macro;
      function.closure = scope_;
      set_variable(node.macro.name, Value(std::move(function)));
      break;
    }
    case Node::Kind::Generation: generate(node); break;
    case Node::Kind::Break: return Flow::Break;
    case Node::Kind::Continue: return Flow::Continue;
  }
  return Flow::Normal;
}

Machine::Flow Machine::execute_if(const Node& node) {
  for (const auto& [condition, body] : node.branches) {
    if (condition == nullptr || evaluate(*condition).truth()) return execute(body);
  }
  return Flow::Normal;
}

void Machine::bind(const Node& node, const Value& item) {
  if (node.targets.size() == 1) {
    set_variable(node.targets.front(), item);
    return;
  }
  const List parts = items(item);
  if (parts.size() != node.targets.size()) {
    fail("cannot unpack " + std::to_string(parts.size()) + " values into " +
         std::to_string(node.targets.size()) + " names");
  }
  for (std::size_t i = 0; i < parts.size(); ++i) set_variable(node.targets[i], parts[i]);
}

List Machine::loop_items(const Node& node) {
  List all = items(evaluate(*node.expr));
  if (node.condition == nullptr) return all;
  const Redirect inner(*this, output_, new_scope(scope_));
  List kept;
  for (Value& item : all) {
    bind(node, item);
    if (evaluate(*node.condition).truth()) kept.push_back(std::move(item));
  }
  return kept;
}

Value Machine::loop_variable(const List& items, std::size_t index) {
  const auto whole = [](std::size_t number) { return Value(static_cast<std::int64_t>(number)); };
  const std::size_t size = items.size();
  Function cycle;
  cycle.native = [index](Machine& machine, const Arguments& arguments) {
    if (arguments.positional.empty()) machine.fail("loop.cycle needs values");
    return arguments.positional[index % arguments.positional.size()];
  };
  const bool is_first = index == 0;
  const bool is_last = index + 1 == size;
  charge_items(10);
  return Value(Dict{.entries = {{"index0", whole(index)},
                                {"index", whole(index + 1)},
                                {"first", Value(is_first)},
                                {"last", Value(is_last)},
                                {"length", whole(size)},
                                {"revindex", whole(size - index)},
                                {"revindex0", whole(size - index - 1)},
                                {"previtem", is_first ? Value() : items[index - 1]},
                                {"nextitem", is_last ? Value() : items[index + 1]},
                                {"cycle", Value(std::move(cycle))}},
                    .is_namespace = false});
}

Machine::Flow Machine::execute_for(const Node& node) {
  const List all = loop_items(node);
  if (all.empty()) return execute(node.otherwise);
  const Redirect inner(*this, output_, new_scope(scope_));
  for (std::size_t i = 0; i < all.size(); ++i) {
    scope_->variables.clear();
    scope_->set("loop", loop_variable(all, i));
    bind(node, all[i]);
    if (execute(node.body) == Flow::Break) break;
  }
  return Flow::Normal;
}

void Machine::assign(const Node& node, Value value) {
  if (node.attribute.empty()) {
    if (node.targets.size() == 1) {
      set_variable(node.targets.front(), std::move(value));
    } else {
      bind(node, value);
    }
    return;
  }
  const Value* const found = find_variable(node.targets.front());
  Dict* const dict = found == nullptr ? nullptr : found->dict();
  if (dict == nullptr || !dict->is_namespace) {
    fail("cannot set an attribute of " + core::quote(node.targets.front()) +
         ", which is no namespace");
  }
  if (node.attribute.starts_with('_')) fail("names of attributes must not begin with _");
  set(*dict, node.attribute, std::move(value));
}

std::string Machine::captured(const Block& block) {
  std::string text;
  const Redirect inner(*this, &text, new_scope(scope_));
  execute(block);
  return text;
}

// Like a call in Jinja: what is set inside is not seen outside.
void Machine::generate(const Node& node) {
  const std::size_t begin = output_->size();
  const Redirect inner(*this, output_, new_scope(scope_));
  execute(node.body);
  if (output_ == &root_output_) generations_.emplace_back(begin, output_->size());
}

Value Machine::call(const Value& callee, const Arguments& arguments) {
  const Function* const function = callee.function();
  if (function == nullptr) fail(callee.type_name() + " is not callable");
  if (function->macro != nullptr) return call_macro(*function, arguments);
  return function->native(*this, arguments);
}

Value Machine::call_macro(const Function& function, const Arguments& given) {
  const MacroNode& macro = *function.macro;
  work((macro.parameters.size() + 1) * (given.named.size() + 1));
  if (given.positional.size() > macro.parameters.size()) {
    fail("macro " + core::quote(macro.name) + " takes at most " +
         std::to_string(macro.parameters.size()) + " arguments");
  }
  for (const auto& argument : given.named) {
    const auto named = [&](const auto& parameter) { return parameter.first == argument.first; };
    if (std::ranges::none_of(macro.parameters, named)) {
      fail("macro " + core::quote(macro.name) + " has no argument " + core::quote(argument.first));
    }
  }
  std::string text;
  {
    const int line = line_;
    const Redirect inner(*this, &text, new_scope(function.closure));
    for (std::size_t i = 0; i < macro.parameters.size(); ++i) {
      const auto& [name, standard] = macro.parameters[i];
      const Value* const value = given.find(i, name);
      set_variable(name, value != nullptr      ? *value
                         : standard != nullptr ? evaluate(*standard)
                                               : Value::undefined(name));
    }
    execute(macro.body);
    line_ = line;
  }
  return Value(std::move(text));
}

List Machine::items(const Value& value) {
  if (value.is_undefined()) return {};
  if (const List* list = value.list()) {
    charge_items(list->size());
    return *list;
  }
  List result;
  if (const std::string* string = value.text()) {
    for (const std::string_view character : characters(*string)) {
      result.push_back(text(std::string(character)));
    }
  } else if (const Dict* dict = value.dict(); dict != nullptr && !dict->is_namespace) {
    for (const auto& entry : dict->entries) result.push_back(text(entry.first));
  } else {
    fail(value.type_name() + " is not iterable");
  }
  return result;
}

}  // namespace drystone::text::jinja
