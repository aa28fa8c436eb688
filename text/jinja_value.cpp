#include "text/jinja_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "text/utf8.h"

namespace drystone::text::jinja {

namespace {

constexpr int kMaxDepth = 64;
constexpr std::size_t kMaxParts = 1'000'000;
constexpr std::size_t kMaxText = std::size_t{16} << 20;

void check_depth(int depth) {
  if (depth > kMaxDepth) throw core::ConfigError("a value is nested too deep");
}

void check_size(const std::string& text) {
  if (text.size() > kMaxText) throw core::ConfigError("a value makes too much text");
}

/// One comparison, which counts the parts that it looks at.
class Comparison {
 public:
  explicit Comparison(std::size_t& budget) : budget_(budget) {}

  bool equal(const Value& a, const Value& b, int depth) {
    visit(depth);
    if (const auto x = a.as_number(), y = b.as_number(); x && y) {
      const auto i = a.as_integer();
      const auto j = b.as_integer();
      return i && j ? *i == *j : *x == *y;
    }
    if (const std::string *x = a.text(), *y = b.text(); x != nullptr && y != nullptr) {
      if (x->size() == y->size()) pay(x->size() / 8);
      return *x == *y;
    }
    if (const List *x = a.list(), *y = b.list(); x != nullptr && y != nullptr) {
      return std::ranges::equal(*x, *y, [&](const Value& left, const Value& right) {
        return equal(left, right, depth + 1);
      });
    }
    if (const Dict *x = a.dict(), *y = b.dict(); x != nullptr && y != nullptr) {
      return equal(*x, *y, depth);
    }
    if (a.function() != nullptr) return a.function() == b.function();
    return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
  }

  std::optional<bool> less(const Value& a, const Value& b, int depth) {
    visit(depth);
    if (const auto x = a.as_number(), y = b.as_number(); x && y) {
      const auto i = a.as_integer();
      const auto j = b.as_integer();
      return i && j ? *i < *j : *x < *y;
    }
    if (const std::string *x = a.text(), *y = b.text(); x != nullptr && y != nullptr) {
      pay(std::min(x->size(), y->size()) / 8);
      return *x < *y;
    }
    const List* const x = a.list();
    const List* const y = b.list();
    if (x == nullptr || y == nullptr) return std::nullopt;
    for (std::size_t i = 0; i < std::min(x->size(), y->size()); ++i) {
      if (!equal((*x)[i], (*y)[i], depth + 1)) return less((*x)[i], (*y)[i], depth + 1);
    }
    return x->size() < y->size();
  }

 private:
  bool equal(const Dict& a, const Dict& b, int depth) {
    if (&a == &b) return true;
    if (a.is_namespace || b.is_namespace || a.entries.size() != b.entries.size()) return false;
    return std::ranges::all_of(a.entries, [&](const auto& entry) {
      pay(b.entries.size() * (1 + entry.first.size() / 8));
      const Value* const other = b.find(entry.first);
      return other != nullptr && equal(entry.second, *other, depth + 1);
    });
  }

  void visit(int depth) {
    check_depth(depth);
    pay(1);
    if (++parts_ > kMaxParts) fail();
  }

  void pay(std::size_t cost) {
    if (cost > budget_) fail();
    budget_ -= cost;
  }

  [[noreturn]] static void fail() { throw core::ConfigError("a value is too large to compare"); }

  std::size_t& budget_;
  std::size_t parts_ = 0;
};

void append_hex(std::string& out, char prefix, char32_t code, int digits) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  out += {'\\', prefix};
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) out += kDigits[(code >> shift) & 15];
}

void append_repr(std::string& out, const std::string& text) {
  const bool has_single = text.find('\'') != std::string::npos;
  const char quote = has_single && text.find('"') == std::string::npos ? '"' : '\'';
  out += quote;
  for (const char byte : text) {
    if (byte == quote || byte == '\\') {
      out += {'\\', byte};
    } else if (byte == '\n') {
      out += "\\n";
    } else if (byte == '\r') {
      out += "\\r";
    } else if (byte == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(byte) < 0x20 || byte == 0x7f) {
      append_hex(out, 'x', static_cast<unsigned char>(byte), 2);
    } else {
      out += byte;
    }
  }
  out += quote;
}

void append_value(std::string& out, const Value& value, bool is_nested, int depth) {
  check_depth(depth);
  check_size(out);
  if (value.is_none()) out += "None";
  if (const bool* flag = value.boolean()) out += *flag ? "True" : "False";
  if (const auto* integer = value.integer()) out += std::to_string(*integer);
  if (const double* real = value.real()) out += real_text(*real);
  if (const std::string* text = value.text())
    is_nested ? append_repr(out, *text) : void(out += *text);
  if (const List* list = value.list()) {
    out += '[';
    for (const Value& item : *list) {
      if (&item != &list->front()) out += ", ";
      append_value(out, item, true, depth + 1);
    }
    out += ']';
  }
  if (const Dict* dict = value.dict()) {
    out += dict->is_namespace ? "<Namespace {" : "{";
    for (const auto& entry : dict->entries) {
      if (&entry != &dict->entries.front()) out += ", ";
      append_repr(out, entry.first);
      out += ": ";
      append_value(out, entry.second, true, depth + 1);
    }
    out += dict->is_namespace ? "}>" : "}";
  }
  if (value.function() != nullptr) out += "<function>";
}

class JsonText {
 public:
  explicit JsonText(const JsonStyle& style) : style_(style) {}

  void append(const Value& value, std::size_t depth) {
    check_depth(static_cast<int>(depth));
    check_size(text_);
    if (const List* list = value.list()) return append_list(*list, depth);
    if (const Dict* dict = value.dict(); dict != nullptr && !dict->is_namespace) {
      return append_dict(*dict, depth);
    }
    if (const std::string* text = value.text()) return append_string(*text);
    if (value.is_none()) {
      text_ += "null";
    } else if (const bool* flag = value.boolean()) {
      text_ += *flag ? "true" : "false";
    } else if (const auto* integer = value.integer()) {
      text_ += std::to_string(*integer);
    } else if (const double* real = value.real()) {
      text_ += std::isnan(*real)   ? "NaN"
               : std::isinf(*real) ? (*real > 0 ? "Infinity" : "-Infinity")
                                   : real_text(*real);
    } else {
      throw core::ConfigError("tojson: JSON has no " + value.type_name());
    }
  }

  std::string take() { return std::move(text_); }

 private:
  void append_list(const List& list, std::size_t depth) {
    text_ += '[';
    for (const Value& item : list) {
      separate(&item == &list.front(), depth + 1);
      append(item, depth + 1);
    }
    if (!list.empty()) break_line(depth);
    text_ += ']';
  }

  void append_dict(const Dict& dict, std::size_t depth) {
    std::vector<const std::pair<std::string, Value>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::ranges::sort(entries, {}, [](const auto* entry) { return entry->first; });
    }
    text_ += '{';
    for (const auto* entry : entries) {
      separate(entry == entries.front(), depth + 1);
      append_string(entry->first);
      text_ += style_.key_separator;
      append(entry->second, depth + 1);
    }
    if (!entries.empty()) break_line(depth);
    text_ += '}';
  }

  void separate(bool is_first, std::size_t depth) {
    if (!is_first) text_ += style_.item_separator;
    break_line(depth);
  }

  void break_line(std::size_t depth) {
    if (style_.indent) text_ += '\n' + std::string(depth * *style_.indent, ' ');
  }

  void append_string(const std::string& text) {
    text_ += '"';
    for (std::size_t i = 0; i < text.size();) {
      const char byte = text[i];
      if (const std::size_t found = kEscaped.find(byte); found != std::string_view::npos) {
        text_ += {'\\', kEscapes[found]};
        ++i;
      } else if (static_cast<unsigned char>(byte) < 0x20) {
        append_hex(text_, 'u', static_cast<unsigned char>(byte), 4);
        ++i;
      } else if (style_.ensure_ascii && static_cast<unsigned char>(byte) >= 0x80) {
        append_surrogates(decode_utf8(text, i));
      } else {
        text_ += byte;
        ++i;
      }
    }
    text_ += '"';
  }

  void append_surrogates(char32_t code) {
    if (code < 0x10000) return append_hex(text_, 'u', code, 4);
    code -= 0x10000;
    append_hex(text_, 'u', 0xD800 + (code >> 10), 4);
    append_hex(text_, 'u', 0xDC00 + (code & 0x3FF), 4);
  }

  static constexpr std::string_view kEscaped = "\"\\\n\r\t\b\f";
  static constexpr std::string_view kEscapes = "\"\\nrtbf";

  const JsonStyle& style_;
  std::string text_;
};

/// Destroys values that hold each other one after the other.
template <typename T>
void dismantle(T* value) {
  thread_local std::vector<T*> pending;
  thread_local bool is_busy = false;
  pending.push_back(value);
  if (is_busy) return;
  is_busy = true;
  while (!pending.empty()) {
    T* const next = pending.back();
    pending.pop_back();
    delete next;
  }
  is_busy = false;
}

template <typename T>
std::shared_ptr<T> shared_value(T value) {
  return std::shared_ptr<T>(new T(std::move(value)), dismantle<T>);
}

}  // namespace

std::shared_ptr<Dict> shared(Dict dict) { return shared_value(std::move(dict)); }

Value::Value(List items) : held_(std::shared_ptr<const List>(shared_value(std::move(items)))) {}

const Value* Dict::find(std::string_view key) const {
  const auto found = std::ranges::find(entries, key, &std::pair<std::string, Value>::first);
  return found == entries.end() ? nullptr : &found->second;
}

void Dict::set(std::string_view key, Value value) {
  const auto found = std::ranges::find(entries, key, &std::pair<std::string, Value>::first);
  if (found != entries.end()) {
    found->second = std::move(value);
  } else {
    entries.emplace_back(key, std::move(value));
  }
}

const Value* Arguments::find(std::size_t position, std::string_view name) const {
  if (position < positional.size()) return &positional[position];
  const auto found = std::ranges::find(named, name, &std::pair<std::string, Value>::first);
  return found == named.end() ? nullptr : &found->second;
}

std::optional<std::int64_t> Value::as_integer() const {
  if (integer() != nullptr) return *integer();
  if (boolean() != nullptr) return *boolean() ? 1 : 0;
  return std::nullopt;
}

std::optional<double> Value::as_number() const {
  if (real() != nullptr) return *real();
  if (const auto whole = as_integer()) return static_cast<double>(*whole);
  return std::nullopt;
}

bool Value::truth() const {
  if (const auto value = as_number()) return *value != 0.0;
  if (text() != nullptr) return !text()->empty();
  if (list() != nullptr) return !list()->empty();
  if (dict() != nullptr) return dict()->is_namespace || !dict()->entries.empty();
  return function() != nullptr;
}

std::string Value::type_name() const {
  if (is_undefined()) return "undefined value";
  if (is_none()) return "None";
  if (boolean() != nullptr) return "bool";
  if (integer() != nullptr) return "int";
  if (real() != nullptr) return "float";
  if (text() != nullptr) return "str";
  if (list() != nullptr) return "list";
  if (dict() != nullptr) return dict()->is_namespace ? "namespace" : "dict";
  return "function";
}

bool equals(const Value& a, const Value& b, std::size_t& budget) {
  return Comparison(budget).equal(a, b, 0);
}

std::optional<bool> less(const Value& a, const Value& b, std::size_t& budget) {
  return Comparison(budget).less(a, b, 0);
}

std::string to_text(const Value& value) {
  std::string out;
  append_value(out, value, false, 0);
  return out;
}

std::string real_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  constexpr double kExponentFrom = 1e16;
  const double size = std::abs(value);
  const bool is_plain = value == 0.0 || (size >= 1e-4 && size < kExponentFrom);
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), value,
                    is_plain ? std::chars_format::fixed : std::chars_format::scientific)
          .ptr;
  std::string text(buffer, end);
  if (is_plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

std::string to_json(const Value& value, const JsonStyle& style) {
  JsonText text(style);
  text.append(value, 0);
  return text.take();
}

}  // namespace drystone::text::jinja
