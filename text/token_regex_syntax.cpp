// Oniguruma's regular expressions in PCRE2's syntax.

#include <algorithm>
#include <array>
#include <bitset>
#include <charconv>
#include <memory>
#include <utility>

#include "core/error.h"
#include "text/token_regex.h"
#include "text/utf8.h"

namespace drystone::text {

namespace {

using Pair = std::pair<std::string_view, std::string_view>;

constexpr std::string_view kSpace =
    R"(\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";

/// What Unicode 15 to 16 added to each category: PCRE2 10.42 knows Unicode 14.
constexpr std::array<Pair, 14> kNewCharacters = {{
    {"Lu", R"(\x{1c89}\x{a7cb}-\x{a7cc}\x{a7da}\x{a7dc}\x{10d50}-\x{10d65})"},
    {"Ll", R"(\x{1c8a}\x{a7cd}\x{a7db}\x{10d70}-\x{10d85}\x{1df25}-\x{1df2a})"},
    {"Lm",
     R"(\x{10d4e}\x{10d6f}\x{16d40}-\x{16d42}\x{16d6b}-\x{16d6c}\x{1e030}-\x{1e06d}\x{1e4eb})"},
    {"Lo",
     R"(\x{105c0}-\x{105f3}\x{10d4a}-\x{10d4d}\x{10d4f}\x{10ec2}-\x{10ec4}\x{1123f}-\x{11240})"
     R"(\x{11380}-\x{11389}\x{1138b}\x{1138e}\x{11390}-\x{113b5}\x{113b7}\x{113d1}\x{113d3})"
     R"(\x{11bc0}-\x{11be0}\x{11f02}\x{11f04}-\x{11f10}\x{11f12}-\x{11f33}\x{1342f})"
     R"(\x{13441}-\x{13446}\x{13460}-\x{143fa}\x{16100}-\x{1611d}\x{16d43}-\x{16d6a}\x{18cff})"
     R"(\x{1b132}\x{1b155}\x{1e4d0}-\x{1e4ea}\x{1e5d0}-\x{1e5ed}\x{1e5f0}\x{2b739})"
     R"(\x{2ebf0}-\x{2ee5d}\x{31350}-\x{323af})"},
    {"L",
     R"(\x{1c89}-\x{1c8a}\x{a7cb}-\x{a7cd}\x{a7da}-\x{a7dc}\x{105c0}-\x{105f3}\x{10d4a}-\x{10d65})"
     R"(\x{10d6f}-\x{10d85}\x{10ec2}-\x{10ec4}\x{1123f}-\x{11240}\x{11380}-\x{11389}\x{1138b})"
     R"(\x{1138e}\x{11390}-\x{113b5}\x{113b7}\x{113d1}\x{113d3}\x{11bc0}-\x{11be0}\x{11f02})"
     R"(\x{11f04}-\x{11f10}\x{11f12}-\x{11f33}\x{1342f}\x{13441}-\x{13446}\x{13460}-\x{143fa})"
     R"(\x{16100}-\x{1611d}\x{16d40}-\x{16d6c}\x{18cff}\x{1b132}\x{1b155}\x{1df25}-\x{1df2a})"
     R"(\x{1e030}-\x{1e06d}\x{1e4d0}-\x{1e4eb}\x{1e5d0}-\x{1e5ed}\x{1e5f0}\x{2b739})"
     R"(\x{2ebf0}-\x{2ee5d}\x{31350}-\x{323af})"},
    {"Nd", R"(\x{10d40}-\x{10d49}\x{116d0}-\x{116e3}\x{11bf0}-\x{11bf9}\x{11f50}-\x{11f59})"
           R"(\x{16130}-\x{16139}\x{16d70}-\x{16d79}\x{1ccf0}-\x{1ccf9}\x{1e4f0}-\x{1e4f9})"
           R"(\x{1e5f1}-\x{1e5fa})"},
    {"No", R"(\x{1d2c0}-\x{1d2d3})"},
    {"N", R"(\x{10d40}-\x{10d49}\x{116d0}-\x{116e3}\x{11bf0}-\x{11bf9}\x{11f50}-\x{11f59})"
          R"(\x{16130}-\x{16139}\x{16d70}-\x{16d79}\x{1ccf0}-\x{1ccf9}\x{1d2c0}-\x{1d2d3})"
          R"(\x{1e4f0}-\x{1e4f9}\x{1e5f1}-\x{1e5fa})"},
    {"P", R"(\x{1b4e}-\x{1b4f}\x{1b7f}\x{10d6e}\x{113d4}-\x{113d5}\x{113d7}-\x{113d8})"
          R"(\x{11b00}-\x{11b09}\x{11be1}\x{11f43}-\x{11f4f}\x{16d6d}-\x{16d6f}\x{1e5ff})"},
    {"S",
     R"(\x{2427}-\x{2429}\x{2ffc}-\x{2fff}\x{31e4}-\x{31e5}\x{31ef}\x{10d8e}-\x{10d8f})"
     R"(\x{1cc00}-\x{1ccef}\x{1cd00}-\x{1ceb3}\x{1f6dc}\x{1f774}-\x{1f776}\x{1f77b}-\x{1f77f})"
     R"(\x{1f7d9}\x{1f8b2}-\x{1f8bb}\x{1f8c0}-\x{1f8c1}\x{1fa75}-\x{1fa77}\x{1fa87}-\x{1fa89})"
     R"(\x{1fa8f}\x{1faad}-\x{1faaf}\x{1fabb}-\x{1fabf}\x{1fac6}\x{1face}-\x{1facf})"
     R"(\x{1fada}-\x{1fadc}\x{1fadf}\x{1fae8}-\x{1fae9}\x{1faf7}-\x{1faf8}\x{1fbcb}-\x{1fbef})"},
    {"M",
     R"(\x{897}\x{cf3}\x{ece}\x{10d69}-\x{10d6d}\x{10efc}-\x{10eff}\x{11241}\x{113b8}-\x{113c0})"
     R"(\x{113c2}\x{113c5}\x{113c7}-\x{113ca}\x{113cc}-\x{113d0}\x{113d2}\x{113e1}-\x{113e2})"
     R"(\x{11f00}-\x{11f01}\x{11f03}\x{11f34}-\x{11f3a}\x{11f3e}-\x{11f42}\x{11f5a}\x{13440})"
     R"(\x{13447}-\x{13455}\x{1611e}-\x{1612f}\x{1e08f}\x{1e4ec}-\x{1e4ef}\x{1e5ee}-\x{1e5ef})"},
    {"sc:Han", R"(\x{2b739}\x{2ebf0}-\x{2ee5d}\x{31350}-\x{323af})"},
    {"Alphabetic", ""},
    {"Any", ""},
}};

/// Oniguruma's long names of what PCRE2 has under a short one.
constexpr std::array<Pair, 7> kLongNames = {{{"Letter", "L"},
                                             {"Mark", "M"},
                                             {"Number", "N"},
                                             {"Punctuation", "P"},
                                             {"Symbol", "S"},
                                             {"Separator", "Z"},
                                             {"Other", "C"}}};

template <std::size_t N>
const std::string_view* look_up(const std::array<Pair, N>& table, std::string_view key) {
  const auto found =
      std::find_if(table.begin(), table.end(), [key](const Pair& row) { return row.first == key; });
  return found == table.end() ? nullptr : &found->second;
}

class Translator {
 public:
  Translator(std::string_view pattern, Characters characters)
      : pattern_(pattern), is_plain_(characters == Characters::Old) {}

  std::string run() {
    while (at_ < pattern_.size()) step();
    return std::move(out_);
  }

 private:
  bool next_is(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  void copy(std::size_t count) {
    out_ += pattern_.substr(at_, count);
    at_ += count;
  }

  void step() {
    if (pattern_[at_] == '\\' && at_ + 1 < pattern_.size()) return escape();
    if (depth_ == 0) {
      depth_ += pattern_[at_] == '[' ? 1 : 0;
      const bool opens = depth_ == 1;
      copy(1);
      if (opens) class_start();
      return;
    }
    in_class();
  }

  /// A bracket right behind '[' or '[^' is a character of the class.
  void class_start() {
    if (next_is("^")) copy(1);
    if (next_is("]")) copy(1);
  }

  void in_class() {
    if (next_is("&&")) refuse("&& (an intersection of classes)");
    if (next_is("[:punct:]")) {
      at_ += std::string_view("[:punct:]").size();
      add_category("P");
      return add_category("S");
    }
    const std::size_t posix_end = next_is("[:") ? pattern_.find(":]", at_) : std::string_view::npos;
    if (posix_end != std::string_view::npos) return copy(posix_end + 2 - at_);
    if (next_is("[")) refuse("a class inside a class");
    if (next_is("]")) --depth_;
    copy(1);
  }

  void escape() {
    switch (pattern_[at_ + 1]) {
      case 's': return is_plain_ ? copy(2) : set(kSpace, false);
      case 'S': return is_plain_ || depth_ > 0 ? copy(2) : set(kSpace, true);
      case 'w': return set(word_characters(), false);
      case 'W': return depth_ > 0 ? copy(2) : set(word_characters(), true);
      case 'h': return set("0-9a-fA-F", false);
      case 'p':
      case 'P': return property();
      default: return copy(2);
    }
  }

  /// Two characters of the pattern stand for `members`.
  void set(std::string_view members, bool is_negated) {
    at_ += 2;
    write_set(members, is_negated);
  }

  void write_set(std::string_view members, bool is_negated) {
    if (depth_ > 0) {
      out_ += members;
      return;
    }
    out_ += is_negated ? "[^" : "[";
    out_ += members;
    out_ += ']';
  }

  std::string word_characters() const {
    std::string members(kWord);
    for (const char* category : {"L", "M", "Nd"}) members += added_to(category);
    return members;
  }

  void add_category(std::string_view name) {
    out_ += "\\p{" + std::string(name) + "}";
    out_ += added_to(name);
  }

  /// \p{name}, \P{name} or \p{^name}.
  void property() {
    const std::size_t end = pattern_.find('}', at_);
    if (at_ + 2 >= pattern_.size() || pattern_[at_ + 2] != '{' || end == std::string_view::npos) {
      return copy(2);
    }
    std::string_view name = pattern_.substr(at_ + 3, end - at_ - 3);
    bool is_negated = pattern_[at_ + 1] == 'P';
    if (name.starts_with('^')) {
      is_negated = !is_negated;
      name.remove_prefix(1);
    }
    at_ = end + 1;
    write_property(pcre_name(name), is_negated);
  }

  void write_property(const std::string& name, bool is_negated) {
    const std::string_view added = added_to(name);
    const std::string escape = (is_negated ? "\\P{" : "\\p{") + name + "}";
    if (added.empty() || (is_negated && depth_ > 0)) {
      out_ += escape;
      return;
    }
    write_set("\\p{" + name + "}" + std::string(added), is_negated);
  }

  std::string_view added_to(std::string_view category) const {
    const std::string_view* added = look_up(kNewCharacters, category);
    return added == nullptr || is_plain_ ? std::string_view() : *added;
  }

  static std::string pcre_name(std::string_view name) {
    if (const std::string_view* short_name = look_up(kLongNames, name)) {
      return std::string(*short_name);
    }
    const bool is_script = name.size() > 2 && look_up(kNewCharacters, name) == nullptr;
    return (is_script ? "sc:" : "") + std::string(name);
  }

  [[noreturn]] void refuse(const std::string& what) const {
    throw core::ConfigError("regular expression " + std::string(pattern_) + ": " + what +
                            " is not supported");
  }

  std::string_view pattern_;
  bool is_plain_;
  std::size_t at_ = 0;
  int depth_ = 0;  ///< 1 inside [...]
  std::string out_;
};

/// Blocks of 64 code points that hold one for which Characters::Old is not enough.
class NewBlocks {
 public:
  NewBlocks() {
    blocks_.set(0x180E / kSize);
    for (const auto& [category, ranges] : kNewCharacters) add(ranges);
  }
  bool holds(char32_t code_point) const { return blocks_.test(code_point / kSize); }

 private:
  static constexpr std::size_t kSize = 64;

  void add(std::string_view ranges) {
    for (std::size_t at = ranges.find('{'); at != std::string_view::npos;
         at = ranges.find('{', at + 1)) {
      const std::size_t first = number(ranges.substr(at + 1));
      const std::size_t end = ranges.find('}', at);
      const bool is_range = ranges.substr(end + 1).starts_with('-');
      if (is_range) at = ranges.find('{', end);
      const std::size_t last = is_range ? number(ranges.substr(at + 1)) : first;
      for (std::size_t block = first / kSize; block <= last / kSize; ++block) blocks_.set(block);
    }
  }

  static std::size_t number(std::string_view digits) {
    std::size_t value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    return value;
  }

  std::bitset<0x110000 / kSize> blocks_;
};

}  // namespace

std::string translate_oniguruma(std::string_view pattern, Characters characters) {
  return Translator(pattern, characters).run();
}

Characters characters_of(std::string_view text) {
  static const auto blocks = std::make_unique<const NewBlocks>();
  for (std::size_t i = 0; i < text.size();) {
    if (static_cast<unsigned char>(text[i]) < 0xE0) {  // new ones begin at U+0897
      ++i;
    } else if (blocks->holds(decode_utf8(text, i))) {
      return Characters::All;
    }
  }
  return Characters::Old;
}

}  // namespace drystone::text
